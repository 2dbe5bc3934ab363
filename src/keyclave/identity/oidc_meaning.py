"""What a provider's word means here: the name of a principal, an assurance level, roles. Policy says which; nothing is assumed.

A claim that policy does not mention means nothing: the least level, no role.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from keyclave.core.limits import NAME
from keyclave.crypto.digest import sha256
from keyclave.identity.oidc_tokens import Vouched

_PLAIN = re.compile(rb"[A-Za-z0-9._@-]")


def principal_of(provider: str, subject: str) -> str:
    """Return the name of a provider's subject: `oidc:<provider>:<subject>`.

    Bytes other than letters, digits and `._@-` are written `+hh`; a subject that is too long is written as `+sha256+` and its
    hash. So two subjects never have one name, and no subject looks like another kind of name.
    """
    written = "".join(chr(byte) if _PLAIN.match(bytes([byte])) else f"+{byte:02x}" for byte in subject.encode())
    name = f"oidc:{provider}:{written}"
    return name if len(name) <= NAME else f"oidc:{provider}:+sha256+{sha256(subject.encode()).hex()}"


def level_of(vouched: Vouched, acr: Mapping[str, int], amr: Mapping[str, int]) -> int:
    """Return the assurance level that the claims reach by policy's maps; 1 where they say nothing that policy knows."""
    return max([1, acr.get(vouched.acr, 1), *(amr.get(method, 1) for method in vouched.amr)])


def roles_of(vouched: Vouched, groups: Mapping[str, str]) -> frozenset[str]:
    """Return the roles that the person's groups stand for."""
    return frozenset(groups[group] for group in vouched.groups if group in groups)

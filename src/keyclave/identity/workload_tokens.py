"""Tokens of issuers outside (Kubernetes service accounts, OpenID Connect, JWT-SVID): verified strictly, mapped to a SPIFFE ID.

The header of a token chooses nothing but which of the issuer's own keys is tried: the algorithm must be on the issuer's list and
fit the key, and a header that brings or points to a key (jwk, jku, x5c, x5u) or asks for extensions (crit) is refused (RFC 8725
sections 3.1, 3.2 and 3.10). RFC 7519, RFC 7515, RFC 7800.
"""

from __future__ import annotations

import msgspec


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are believed, for what. `domain` and `path` make the SPIFFE ID: `path` has claims in braces."""

    label: str
    tenant: str
    issuer: str
    audience: str
    domain: str
    path: str
    kind: str
    algorithms: tuple[str, ...] = ("ES256", "RS256")


def check_issuer(issuer: Issuer) -> None:
    """Refuse settings under which a token could be believed that should not be."""

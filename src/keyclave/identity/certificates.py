"""From a client certificate to a name: SPIFFE X.509-SVIDs, or subjects of authorities that the configuration names.

An authority speaks for one thing only: one SPIFFE trust domain, or the subjects of its own certificates under its own label. So
two authorities can never name the same principal, whatever they write into a certificate.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from keyclave.core.errors import Malformed, Unauthenticated
from keyclave.crypto.x509 import Leaf
from keyclave.identity.spiffe import parse_workload

_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)


class Naming(StrEnum):
    """Where an authority's certificates carry the name: the SPIFFE ID, the common name, or the one DNS name."""

    SPIFFE = "spiffe"
    COMMON_NAME = "common-name"
    DNS = "dns"


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """Whom certificates are believed: `anchors` are its certificates (DER), `domain` its SPIFFE trust domain, `label` its name.

    `internal`: the tenant's own authority, each of whose certificates is in the store.
    """

    label: str
    tenant: str
    naming: Naming
    anchors: tuple[bytes, ...]
    domain: str = ""
    internal: bool = False


def name_of(leaf: Leaf, authority: Authority) -> str:
    """Return the principal's name; a certificate that is not exactly as its kind wants it is `Unauthenticated`."""
    if leaf.authority or leaf.signs_certificates or not leaf.client:
        raise _nameless("a certificate of an authority, or one not for clients, names no workload")
    if authority.naming is Naming.SPIFFE:
        return _svid_name(leaf, authority.domain)
    if authority.naming is Naming.COMMON_NAME:
        return _only(leaf.common_names, authority.label)
    return _only(leaf.dns_names, authority.label)


def _svid_name(leaf: Leaf, domain: str) -> str:
    """X509-SVID sections 2 to 4: exactly one URI, of the authority's trust domain; key usage critical, with digitalSignature."""
    if not leaf.usage_critical or not leaf.signs:
        raise _nameless("an X.509-SVID has critical key usage with digitalSignature")
    if len(leaf.uris) != 1:
        raise _nameless("an X.509-SVID has exactly one URI name")
    try:
        found = parse_workload(leaf.uris[0])
    except Malformed as wrong:
        raise _nameless(wrong.hint) from None
    if found.domain != domain:
        raise _nameless("the authority does not speak for that trust domain")
    return str(found)


def _only(names: tuple[str, ...], label: str) -> str:
    if len(names) != 1 or not _PLAIN.fullmatch(names[0]):
        raise _nameless("the certificate carries exactly one name, of letters, digits, dots, dashes and underscores")
    return f"cert:{label}:{names[0]}"


def _nameless(rule: str) -> Unauthenticated:
    return Unauthenticated("the client certificate names nobody who is known here", rule)

"""Whom a trusted proxy asks for: address and certificate of the client, from headers that nobody else can make us believe.

A header is believed only on a connection from a machine of the listed networks that has also shown a listed certificate (or where
the configuration says that the address is enough: then the address alone is believed, never a certificate). One header is chosen
beforehand; the other kind is ignored, for a proxy that writes one passes the other on as the client wrote it. Addresses are read
from the right: each proxy appends whom it saw, so whatever stands left of the first machine that is not ours was written by it.

X-Forwarded-For, Forwarded (RFC 7239), Client-Cert and Client-Cert-Chain (RFC 9440). The PROXY protocol is not spoken.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Sequence

import msgspec

from keyclave.core.errors import Malformed
from keyclave.identity.peer import Peer

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Header = tuple[bytes, bytes]

_HOPS = 32  # addresses looked at
_LONGEST = 24_000  # characters of a certificate's header
_CHAIN = 4
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PAIR = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(\"(?:[^\"\\]|\\.)*\"|[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(;|$)")
FORWARDED = {b"x-forwarded-for", b"forwarded", b"client-cert", b"client-cert-chain"}


class ProxyRule(msgspec.Struct, frozen=True, kw_only=True):
    """Which proxies are believed. `names`: of their certificates; `by_address`: without one, as far as addresses go."""

    networks: tuple[Network, ...]
    names: frozenset[str] = frozenset()
    by_address: bool = False
    header: str = "x-forwarded-for"

    def trusts(self, address: str) -> bool:
        """Tell whether an address is in the listed networks."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)  # ::ffff:10.0.0.1 is 10.0.0.1: one machine, one answer
        return any((mapped or found) in network for network in self.networks)


def read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return networks in CIDR notation, strictly: bits beyond the mask are a mistake, and everybody is no network of ours."""
    try:
        found = tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError:
        raise Malformed("trusted_proxies names what is no network", "write 10.1.2.0/24, or 10.1.2.3/32 for one machine") from None
    if any(network.prefixlen == 0 for network in found):
        raise Malformed("trusted_proxies names every address there is", "list the networks that the proxies are in")
    return found


def asked_for(hop: Peer, rule: ProxyRule, headers: Sequence[Header], *, authenticated: bool) -> Peer:
    """Return whom a request of a trusted connection is for. `authenticated`: the proxy has shown a listed certificate.

    `Malformed` where a header that counts cannot be read: guessing would mean to believe.
    """
    values = [value for name, value in headers if name == rule.header.encode()]
    addresses = _forwarded(values) if rule.header == "forwarded" else _listed(values)
    address = _client(hop.address, addresses, rule)
    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()
    if authenticated:
        leaf = [value for name, value in headers if name == b"client-cert"]
        if len(leaf) > 1:
            raise _wrong("client-cert is there twice")
        certificate = _sequence(leaf[0]) if leaf else None
        above = b",".join(value for name, value in headers if name == b"client-cert-chain")
        chain = tuple(_sequence(part) for part in above.split(b",")[:_CHAIN]) if above and certificate else ()
    return Peer(address, hop.plane, certificate, chain)


def _client(seen: str, addresses: Sequence[str], rule: ProxyRule) -> str:
    """Walk from the connection to the left, as long as the machine that vouches for the next one is trusted."""
    for text in reversed(addresses[-_HOPS:]):
        if not rule.trusts(seen):
            break
        seen = _address(text)
    return seen


def _listed(values: Sequence[bytes]) -> list[str]:
    return [part.strip() for value in values for part in value.decode("latin-1").split(",")]


def _forwarded(values: Sequence[bytes]) -> list[str]:
    """Return the `for` of each element of Forwarded; one without it says nothing that could be believed."""
    found = []
    for element in _elements(",".join(value.decode("latin-1") for value in values)):
        pairs: dict[str, str] = {}
        at = 0
        while at < len(element):
            match = _PAIR.match(element, at)
            if match is None or match[1].lower() in pairs:
                found.append("")
                break
            pairs[match[1].lower()] = match[2]
            at = match.end()
        else:
            text = pairs.get("for", "")
            found.append(re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text)
    return found


def _elements(text: str) -> list[str]:
    """Split at commas outside quotes."""
    held = _QUOTED.sub(lambda match: match[0].replace(",", "\0"), text)
    return [part.replace("\0", ",").strip() for part in held.split(",")] if text.strip() else []


def _address(text: str) -> str:
    """Return an address in its one spelling. With a port it is taken too; anything else is refused."""
    bare = text
    if text.startswith("["):
        bare, bracket, port = text[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            raise _wrong("an address in it is none")
    elif text.count(":") == 1:
        bare, _, port = text.partition(":")
        if not _is_port(":" + port):
            raise _wrong("an address in it is none")
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        raise _wrong("an address in it is none") from None
    if getattr(found, "scope_id", None):
        raise _wrong("an address in it is none")
    return str(getattr(found, "ipv4_mapped", None) or found)


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit() and 0 < int(text[1:6]) < 65_536 and len(text) <= 6


def _sequence(value: bytes) -> bytes:
    """Return the bytes of a structured-field byte sequence (RFC 8941 section 3.3.5): base64 between colons."""
    text = value.strip(b" \t")
    if len(text) > _LONGEST or len(text) < 3 or text[:1] != b":" or text[-1:] != b":":
        raise _wrong("a certificate in it is no byte sequence")
    try:
        return base64.b64decode(text[1:-1], validate=True)
    except (ValueError, binascii.Error):
        raise _wrong("a certificate in it is no byte sequence") from None


def _wrong(what: str) -> Malformed:
    return Malformed(f"the proxy's header cannot be read: {what}", "have the proxy write it anew instead of passing it on")

"""From the configuration's [people] to the people room: who asks for passkeys, from which pages, how long sessions last."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from keyclave.core.clock import Clock
from keyclave.core.errors import Malformed
from keyclave.crypto.module import CryptoModule
from keyclave.identity.assurance import SessionLimits
from keyclave.identity.passkeys import Relying
from keyclave.operations.people.room import SECRET, People
from keyclave.store import meta_rows
from keyclave.store.interface import Store

_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$(?!\n)"
_BEGIN = b"-----BEGIN CERTIFICATE-----"


class Listening(Protocol):
    """What of a listener matters here."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> bool: ...


class PeopleSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`rp_id`: the domain that passkeys are made for, for ever; `origins`: the pages that may ask for them. Left out, they
    follow the listener. `attestation = "direct"`: only devices that prove by a certificate under `attestation_roots` (a PEM
    file) to be of a model in `aaguids` (all models where it is empty) can be enrolled. `sessions` may only shorten the limits
    of the standard.
    """

    rp_id: Annotated[str, Meta(pattern=_NAME)] | None = None
    rp_name: Annotated[str, Meta(min_length=1, max_length=64)] = "Keyclave"
    origins: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    attestation: Literal["none", "direct"] = "none"
    attestation_roots: str = ""
    aaguids: Annotated[tuple[str, ...], Meta(max_length=1024)] = ()
    sessions: SessionLimits = SessionLimits()


def people_room(
    section: PeopleSection, listen: Listening, home: Path, store: Store, module: CryptoModule, clock: Clock
) -> People:
    """Return the people room; without `rp_id` and `origins` they follow `listen`, where people come in."""
    host, port, tls = listen.host, listen.port, listen.tls
    # a passkey is made for a domain, and an address is none: a server that listens on one is asked for by name
    domain = section.rp_id or (host if host.strip("0123456789.:") and ":" not in host else "localhost")
    scheme = "https" if tls else "http"
    standard = 443 if tls else 80
    origins = section.origins or (f"{scheme}://{domain}" + ("" if port == standard else f":{port}"),)
    for origin in origins:
        _check_origin(origin, domain)
    roots = _roots(home, section)
    if section.attestation == "direct" and not roots:
        raise Malformed("keyclave.toml: people.attestation is direct without attestation_roots", "name the vendors' roots (PEM)")
    relying = Relying(
        id=domain,
        name=section.rp_name,
        origins=origins,
        attestation=section.attestation,
        aaguids=frozenset(_aaguid(text) for text in section.aaguids),
        roots=roots,
    )
    return People(module, clock, relying, section.sessions, _secret(store, module), store)


def _check_origin(origin: str, domain: str) -> None:
    """Refuse an origin that browsers would: passkeys of a domain are for its own pages, over TLS unless on this machine."""
    scheme, separator, rest = origin.partition("://")
    name = rest.partition(":")[0]
    local = name == "localhost" or name.endswith(".localhost")
    if not separator or "/" in rest or scheme not in ("https", "http") or (scheme == "http" and not local):
        raise Malformed(f"keyclave.toml: {origin!r} is no origin of pages", "write it like https://keys.example.org")
    if name != domain and not name.endswith("." + domain):
        raise Malformed(f"keyclave.toml: the origin {origin!r} is not of {domain}", "set people.rp_id to the domain of the pages")


def _aaguid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Malformed(f"keyclave.toml: {text!r} is no AAGUID", "write it like ee882879-721c-4913-9775-3dfcce97072a") from None


def _roots(home: Path, section: PeopleSection) -> tuple[bytes, ...]:
    if not section.attestation_roots:
        return ()
    try:
        text = (home / section.attestation_roots).read_bytes()
    except OSError as fault:
        raise Malformed(f"people.attestation_roots cannot be read: {fault.strerror}", "name a PEM file") from None
    return tuple(_BEGIN + part for part in text.split(_BEGIN)[1:])


def _secret(store: Store, module: CryptoModule) -> bytes:
    """Return the secret of the store's settings. Of several nodes that start for the first time, one makes it for all."""
    kept = store.read(lambda conn: meta_rows.read_meta(conn, SECRET))
    if kept is None:
        drawn = module.random(32)
        kept = store.write(lambda conn: meta_rows.keep_meta(conn, SECRET, drawn))
    return kept

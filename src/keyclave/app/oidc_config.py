"""From the configuration's [[oidc]] to the providers of single sign-on that the people room knows."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.app.back_channel import BackChannel
from keyclave.core.clock import Clock
from keyclave.core.errors import Malformed
from keyclave.crypto.module import CryptoModule
from keyclave.identity.oidc import ALGORITHMS, Provider, check_provider
from keyclave.identity.oidc_client import Client, KeyClient, SecretClient
from keyclave.operations.people.sign_on_room import House

_LONGEST_SECRET = 16_384


class OidcSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A provider. `client_secret_file` or `client_key_file` (a private key, PEM) proves who we are to it.

    `redirect`: where it sends people back, the first of people.origins + /v1/sso/NAME/callback where left out. `origins`: of its
    endpoints, beside the issuer's own. `groups`: the claim that lists groups. `least_aal`: what a login must reach by the maps of
    policy (`[sign_on.NAME]` in rules.toml). `max_age_seconds`: since the person proved themselves there. `ca`: PEM file.
    """

    name: str
    issuer: str
    client_id: str
    client_secret_file: str = ""
    client_key_file: str = ""
    label: Annotated[str, Meta(max_length=64)] = ""
    redirect: str = ""
    tenant: str = ""
    scopes: Annotated[tuple[str, ...], Meta(max_length=16)] = ("openid",)
    origins: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    groups: str = ""
    acr_values: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    algorithms: tuple[str, ...] = ALGORITHMS
    least_aal: Annotated[int, Meta(ge=1, le=3)] = 1
    max_age_seconds: Annotated[int, Meta(ge=60, le=86_400)] = 3600
    ca: str = ""


def sign_on_houses(
    sections: tuple[OidcSection, ...], origin: str, home: Path, module: CryptoModule, clock: Clock, *, development: bool
) -> dict[str, House]:
    """Return the providers by name; `origin` is that of our own pages."""
    houses: dict[str, House] = {}
    for section in sections:
        provider = _provider(section, origin)
        check_provider(provider, development=development)
        if section.name in houses:
            raise Malformed(f"keyclave.toml: two providers are called {section.name!r}", "a name is of one provider for ever")
        channel = BackChannel(section.name, home / section.ca if section.ca else None)
        client = _client(section, home, module)
        houses[section.name] = House(provider, client, channel, clock, development=development)
    return houses


def _provider(section: OidcSection, origin: str) -> Provider:
    callback = f"/v1/sso/{section.name}/callback"
    redirect = section.redirect or origin + callback
    if not redirect.endswith(callback) or "?" in redirect:
        # one address for each provider: an answer of one can then not pass for another's (RFC 9700 section 4.4.2)
        raise Malformed(
            f"keyclave.toml: oidc {section.name!r}: redirect does not end with {callback}", "write it so, or leave it out"
        )
    return Provider(
        name=section.name,
        label=section.label or section.name,
        issuer=section.issuer,
        client_id=section.client_id,
        redirect_uri=redirect,
        tenant="" if section.tenant == "home" else section.tenant,
        scopes=section.scopes,
        origins=frozenset(section.origins),
        groups_claim=section.groups,
        acr_values=section.acr_values,
        algorithms=section.algorithms,
        least_aal=section.least_aal,
        max_age=section.max_age_seconds,
    )


def _client(section: OidcSection, home: Path, module: CryptoModule) -> Client:
    if bool(section.client_secret_file) == bool(section.client_key_file):
        raise Malformed(
            f"keyclave.toml: oidc {section.name!r}: what proves us to it is not named once",
            "give client_secret_file, or client_key_file",
        )
    held = _private(home / (section.client_secret_file or section.client_key_file), section.name)
    if section.client_key_file:
        return KeyClient(section.client_id, held, module.random)
    secret = held.decode("utf-8", "replace").strip()
    if not secret or not secret.isprintable():
        raise Malformed(f"oidc {section.name!r}: the client secret is not text", "the file holds the secret and nothing else")
    return SecretClient(section.client_id, secret)


def _private(path: Path, name: str) -> bytes:
    """Read a file that others cannot read or change."""
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            held = file.read(_LONGEST_SECRET + 1)
    except OSError as fault:
        raise Malformed(
            f"oidc {name!r}: {path} cannot be read: {fault.strerror}", "correct the path, or who may read it"
        ) from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise Malformed(f"oidc {name!r}: others may read or change {path}", f"run `chmod 600 {path}`, and consider it known")
    if len(held) > _LONGEST_SECRET:
        raise Malformed(f"oidc {name!r}: {path} is too long for a secret", "the file holds the secret and nothing else")
    return held

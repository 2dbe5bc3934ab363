"""The configuration: one TOML file in the home directory, frozen, checked once, unknown settings refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from keyclave.app.oidc_config import OidcSection
from keyclave.app.people_config import PeopleSection
from keyclave.core.errors import Malformed
from keyclave.identity.certificates import Naming
from keyclave.identity.proxies import read_networks

FILE = "keyclave.toml"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server listens. `tls = false` only on loopback, and only for measuring.

    `workers` is how many processes serve both listeners (said in `[listen]`); more than one use the cores of one machine.
    `client_certificates`: off, optional or required; left out, it is optional where keys are used and off where they are only
    managed. `trusted_proxies`: networks whose machines may say for whom they ask, when their certificate names one of
    `proxy_names`, or by their address alone with `proxy_by_address = true`.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8443
    tls: bool = True
    certificate: str = "tls/server.pem"
    key: str = "tls/server.key"
    connections: Annotated[int, Meta(ge=16, le=200_000)] = 20_000
    client_certificates: Literal["off", "optional", "required"] | None = None
    trusted_proxies: tuple[str, ...] = ()
    proxy_names: tuple[str, ...] = ()
    proxy_by_address: bool = False
    proxy_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    workers: Annotated[int, Meta(ge=1, le=64)] = 1


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`plain_context`: names of the encryption context whose values the log may show. `destruction_days`: least waiting
    period."""

    plain_context: tuple[str, ...] = ("purpose",)
    destruction_days: Annotated[int, Meta(ge=0, le=365)] = 7
    message_limit: Annotated[int, Meta(ge=1, le=2**48)] = 2**32


Seconds = Annotated[int, Meta(ge=60, le=86_400)]
Label = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$(?!\n)")]


class OutsideAuthority(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose client certificates are believed, and for what: the SPIFFE names of `trust_domain`, or its subjects as cert: names.

    `bundle` is a PEM file, `revocation_list` its CRL (PEM or DER), read again when it changes; `tenant` is "home" or an id.
    """

    label: Label
    bundle: str
    naming: Naming = Naming.SPIFFE
    trust_domain: str = ""
    revocation_list: str = ""
    tenant: str = "home"


class TokenIssuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose JSON Web Tokens are believed. `path` makes the name: "/ns/{namespace}/sa/{service_account}", or "/oidc/{sub}".

    The keys are a JWK set: a file, or an https address that is asked again every `refresh_seconds`.
    """

    label: Label
    issuer: str
    audience: str
    path: str
    kind: Literal["kubernetes", "oidc", "spiffe"] = "oidc"
    trust_domain: str = ""
    algorithms: tuple[str, ...] = ("ES256", "RS256")
    keys_file: str = ""
    keys_url: str = ""
    keys_ca_file: str = ""
    refresh_seconds: Seconds = 300
    tenant: str = "home"


class WorkloadsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Certificates and tokens of workloads. `trust_domain` empty = the first part of the log's origin."""

    trust_domain: str = ""
    authority_key: Literal["ecdsa-p256", "ecdsa-p384"] = "ecdsa-p256"
    certificate_seconds: Seconds = 86_400
    token_seconds: Annotated[int, Meta(ge=60, le=3600)] = 3600
    renewal_days: Annotated[int, Meta(ge=0, le=90)] = 30
    authorities: tuple[OutsideAuthority, ...] = ()
    issuers: tuple[TokenIssuer, ...] = ()


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`origin` names the log in every checkpoint and never changes."""

    origin: str
    checkpoint_seconds: Annotated[float, Meta(ge=0.05, le=60)] = 1.0


class StoreSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A database that nodes share, instead of the home's own file. `password_file` is below the home unless it is absolute;
    `cluster` names the installation: a database of another one is refused. `connections` is how many connections to the database
    this server holds at most, all its workers together; 0: as many as each worker likes."""

    url: str = ""
    password_file: str = ""
    cluster: str = ""
    connections: Annotated[int, Meta(ge=0, le=10_000)] = 0


class NodesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What holds among nodes on one PostgreSQL. `lease_seconds` bounds how long a revocation takes while a node is silent.

    `skew_seconds`: how far this machine's clock may be from the database's. `drain_seconds`: how long a node that is told to
    stop goes on serving while it says that it is not ready. `address` is what the list of nodes shows.

    A node that starts sealed asks `peers` (https addresses, verified by `peers_ca`) for the root key, with its own `certificate`
    and `key`. An unsealed node hands it to those whose certificate, under the authority of the workloads that is labelled
    `unseal_authority`, gives one of the names in `may_unseal`; nobody is named unless somebody writes it here.

    `stale_spool`: a folder of the serving user's, below the home unless it is absolute, where decryptions are recorded while the
    database is away (spec/nodes.md); empty: then nothing is decrypted. `stale_seconds`: for how long after its last lease, by
    which revocations are answered later while a node is silent. `stale_bytes`: how much a spool may hold.
    """

    address: Annotated[str, Meta(max_length=256)] = ""
    lease_seconds: Annotated[float, Meta(ge=0.2, le=60)] = 1.0
    skew_seconds: Annotated[float, Meta(ge=1, le=300)] = 10.0
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    peers: Annotated[tuple[Annotated[str, Meta(pattern="^https://[^/?#@]+$")], ...], Meta(max_length=64)] = ()
    peers_ca: str = ""
    certificate: str = ""
    key: str = ""
    may_unseal: Annotated[tuple[str, ...], Meta(max_length=256)] = ()
    unseal_authority: str = ""
    stale_spool: str = ""
    stale_seconds: Annotated[float, Meta(ge=1, le=300)] = 30.0
    stale_bytes: Annotated[int, Meta(ge=65_536, le=1 << 30)] = 64 << 20


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. `development = true` permits the development root and shorter waiting periods, and is said everywhere."""

    log: LogSettings
    development: bool = False
    database: str = "keyclave.db"
    listen: Listen = Listen()
    data: Listen | None = None
    nodes: NodesSection = NodesSection()
    oidc: Annotated[tuple[OidcSection, ...], Meta(max_length=16)] = ()
    people: PeopleSection = PeopleSection()
    policy: Policy = Policy()
    store: StoreSection = StoreSection()
    workloads: WorkloadsSection = WorkloadsSection()


def load(home: Path) -> Config:
    """Read and check the configuration of a home; everything wrong is one sentence with the place."""
    path = home / FILE
    try:
        config = msgspec.convert(tomllib.loads(path.read_text()), Config)
    except FileNotFoundError:
        raise Malformed(f"there is no {FILE} in {home}", "run `keyclave init` first, or name another home") from None
    except OSError as fault:
        raise Malformed(f"{path}: {fault.strerror}", "name a home that `keyclave init` made, as a user who may read it") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as fault:
        raise Malformed(f"{path}: {fault}", "correct it, or compare with docs/configuration.md") from None
    if not config.development and config.policy.destruction_days < 1:
        raise Malformed(f"{path}: destruction_days is 0", "a waiting period of at least a day, outside development")
    if config.data is not None and config.data.workers != 1:
        raise Malformed(f"{path}: workers in [data]", "say it in [listen]: the workers serve both")
    _check_nodes(path, config)
    for listen in (config.listen, config.data):
        if listen is not None:
            check_listener(path, listen)
    return config


def _check_nodes(path: Path, config: Config) -> None:
    """Refuse settings by which the root key could come into the wrong hands, or never come."""
    nodes = config.nodes
    if nodes.stale_spool and not config.store.url:
        raise Malformed(f"{path}: stale_spool without a database", "leave it out: a home's own file is never away")
    if bool(nodes.may_unseal) != bool(nodes.unseal_authority):
        raise Malformed(f"{path}: may_unseal and unseal_authority go together", "name both, or neither")
    if nodes.unseal_authority and nodes.unseal_authority not in {one.label for one in config.workloads.authorities}:
        raise Malformed(f"{path}: there is no authority {nodes.unseal_authority}", "label one in [[workloads.authorities]]")
    if nodes.may_unseal and config.listen.trusted_proxies:
        raise Malformed(
            f"{path}: may_unseal behind trusted proxies", "nodes ask each other directly: give them a listener without"
        )
    if nodes.may_unseal and config.listen.client_certificates not in ("optional", "required"):
        raise Malformed(f"{path}: may_unseal without client certificates", 'set client_certificates = "optional" in [listen]')
    if nodes.peers and not (nodes.peers_ca and nodes.certificate and nodes.key):
        raise Malformed(f"{path}: peers without peers_ca, certificate and key", "name all of them")


def check_listener(path: Path, listen: Listen) -> None:
    """Refuse settings of a listener that would leave it open; `path` is what the sentence names."""
    if not listen.tls and listen.host not in LOOPBACK:
        raise Malformed(f"{path}: tls is off on {listen.host}", "turn it on: only loopback may do without")
    if not listen.tls and listen.client_certificates not in (None, "off"):
        raise Malformed(f"{path}: client certificates without TLS", "turn tls on")
    read_networks(listen.trusted_proxies)
    if listen.trusted_proxies and not listen.proxy_names and not listen.proxy_by_address:
        raise Malformed(
            f"{path}: trusted_proxies without proxy_names", "name the proxies' certificates, or set proxy_by_address = true"
        )
    if not listen.trusted_proxies and (listen.proxy_names or listen.proxy_by_address):
        raise Malformed(f"{path}: proxy settings without trusted_proxies", "list the networks that the proxies are in")

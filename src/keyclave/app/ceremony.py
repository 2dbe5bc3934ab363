"""`keyclave init`: the ceremony. A root key is made, its recovery key is shared out, and nothing is kept that was not tried.

Order of acts, and what is true if we die after each:
    1  home, certificate      nothing secret exists
    2  root, shares, tenants  only in this process
    3  shares combined again, the root opened with them and tried  -> only then
    4  database               complete in one transaction, or the home is worthless and says so;
                              who holds which share follows with the log's first events
    5  shares and first credentials handed over: the one time they are seen
    6  keyclave.toml          only now can the home be served
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from keyclave.app import wiring
from keyclave.app.config import FILE, StoreSection
from keyclave.app.naming import Naming, check_names, keep_naming
from keyclave.app.settings_file import store_lines
from keyclave.app.stores import ROOT_SEALED, create_store
from keyclave.audit.note import signer_keys
from keyclave.core.clock import SystemClock
from keyclave.core.errors import Broken, Malformed
from keyclave.crypto.arena import Slot
from keyclave.crypto.certificates import development_certificates
from keyclave.crypto.disclosure import lend
from keyclave.crypto.log_keys import LogSigner
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.shares import Share, ShareSet, combine, split
from keyclave.operations.revisions import first_revision
from keyclave.operations.share_holders import ROOT_SHARES
from keyclave.operations.tenants import first_people, new_tenant_keys
from keyclave.operations.unseal import LOG_CONTEXT, LOG_SEED, LOG_VKEYS
from keyclave.roots.software import SoftwareRoot, new_root
from keyclave.store import meta_rows, tenant_rows
from keyclave.store.access import credentials, policies

_SEED_BYTES = 64


@dataclass(frozen=True)
class Wishes:
    """What the ceremony is to make."""

    threshold: int
    custodians: int
    development: bool
    host: str
    port: int
    origin: str
    names: tuple[str, ...]
    people: str = "passkeys"  # or "tokens": how people prove themselves under the first policy
    data_port: int | None = None
    store: StoreSection | None = None  # a database that nodes share
    holders: tuple[str, ...] = ()  # of the shares, in the order of their numbers


class Made(msgspec.Struct):
    """What the ceremony hands over, once."""

    url: str
    ca_file: str
    origin: str
    threshold: int
    development: bool
    shares: list[str]
    credentials: dict[str, str]
    data_url: str = ""
    cluster: str = ""
    holders: list[str] = []


def hold(home: Path, wishes: Wishes) -> tuple[Made, ShareSet]:
    """Hold the ceremony in `home`, which must be new or empty."""
    check_new(home)
    with _as_a_place(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_names(wishes.holders, wishes.custodians)
    module = wiring.new_module()
    _certificates(home, wishes)
    with module.random_slot(32) as recovery:
        shares = split(module, recovery, wishes.threshold, wishes.custodians, development=wishes.development)
        sealed_root = new_root(module, recovery)
        texts = [share.to_text() for share in shares.shares]
        root = _proven_root(module, texts, shares.check, wishes, sealed_root)
        if wishes.development:
            _write(home / wiring.DEVELOPMENT_ROOT, lend(recovery))
    tokens, cluster = _database(home, module, root, sealed_root, shares, wishes)
    root.seal()
    made = Made(
        url=f"https://{wishes.host}:{wishes.port}",
        ca_file=str(home / "tls/ca.pem"),
        origin=wishes.origin,
        threshold=wishes.threshold,
        development=wishes.development,
        shares=texts,
        credentials=tokens,
        cluster=cluster,
        holders=list(wishes.holders),
        data_url="" if wishes.data_port is None else f"https://{wishes.host}:{wishes.data_port}",
    )
    return made, shares


def check_new(home: Path) -> None:
    """Refuse to make a home where there is something already, or where none can be."""
    with _as_a_place(home):
        empty = not home.exists() or not any(home.iterdir())
    if not empty:
        raise Malformed(f"{home} is not empty", "the ceremony makes a new home; an existing one is never touched")


@contextmanager
def _as_a_place(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise Malformed(f"{home} cannot be a home: {fault.strerror}", "name a new folder in one that you may write to") from None


def conclude(home: Path, wishes: Wishes, made: Made) -> None:
    """Make the home one that can be served, once its shares and credentials are with their people."""
    _profiles(home, made)
    part = home / f"{FILE}.part"
    _write(part, _configuration(wishes, made.cluster).encode())
    part.rename(home / FILE)  # whole or not at all
    _sync_folder(home)


def _profiles(home: Path, made: Made) -> None:
    """Write how to reach the server; the credentials too only where nothing is at stake, for their place is with their people."""
    folder = home / "profiles"
    folder.mkdir(mode=0o700)
    reach = {"url": made.url, "ca_file": "../tls/ca.pem"}
    people = made.credentials if made.development else {}
    for name, profile in {"server": reach, **{role: {**reach, "token": token} for role, token in people.items()}}.items():
        _write(folder / f"{name}.json", msgspec.json.format(msgspec.json.encode(profile), indent=2))
    _sync_folder(folder)


def _proven_root(module: CryptoModule, texts: list[str], check: str, wishes: Wishes, sealed_root: bytes) -> SoftwareRoot:
    """Open the root with the very texts that custodians will get; every share takes part at least once."""
    root = SoftwareRoot(module, development=wishes.development)
    for first in range(len(texts) - wishes.threshold + 1):
        given = [Share.from_text(text) for text in texts[first : first + wishes.threshold]]
        root.seal()
        with combine(given, check, module) as again:
            root.open(again, sealed_root)
        root.health()
    return root


def _database(
    home: Path, module: CryptoModule, root: SoftwareRoot, sealed_root: bytes, shares: ShareSet, wishes: Wishes
) -> tuple[dict[str, str], str]:
    new = create_store(home / "keyclave.db", wishes.store, home, module, development=wishes.development)
    at = SystemClock().now()
    tenant, slots, sealed = new_tenant_keys(module, root)
    people = first_people(module, tenant, at, "ceremony")
    with module.random_slot(_SEED_BYTES) as seed:
        sealed_seed = _protected(root, seed)
        vkeys = [str(key) for key in signer_keys(wishes.origin, LogSigner(seed))]

    def keep(conn: Connection) -> None:
        new.claim(conn)
        tenant_rows.insert_tenant(conn, tenant, "home", sealed, at, home=True)
        policies.insert_revision(conn, first_revision(tenant, at, "ceremony", wishes.people))
        for credential, digest, _ in people:
            credentials.insert_credential(conn, credential, digest)
        settings = {
            ROOT_SEALED: sealed_root,
            wiring.ROOT_CHECK: shares.check.encode(),
            wiring.ROOT_SET: shares.set_id,
            wiring.ROOT_THRESHOLD: str(wishes.threshold).encode(),
            ROOT_SHARES: str(len(shares.shares)).encode(),
            LOG_SEED: sealed_seed,
            LOG_VKEYS: msgspec.json.encode(vkeys),
        }
        for name, value in settings.items():
            meta_rows.write_meta(conn, name, value)

    try:
        new.store.write(keep)
        keep_naming(new.store, Naming(new.store.node, tenant, shares.set_id.hex(), wishes.holders, at))
    finally:
        new.store.close()
    for slot in slots.values():
        slot.wipe()
    return {credential.role.value: token for credential, _, token in people}, new.cluster


def _protected(root: SoftwareRoot, seed: Slot) -> bytes:
    sealed = root.protect(seed, LOG_CONTEXT)
    with root.recover(sealed, LOG_CONTEXT) as again:
        if not seed.same_as(again):
            raise Broken("the root does not give back what it took", "run the ceremony again in another home")
    return sealed


def _certificates(home: Path, wishes: Wishes) -> None:
    tls = home / "tls"
    tls.mkdir(mode=0o700)
    made = development_certificates(("localhost", "127.0.0.1", "::1", wishes.host, *wishes.names))
    for name, content in (
        ("ca.pem", made.ca),
        ("ca.key", made.ca_key),
        ("server.pem", made.server),
        ("server.key", made.server_key),
    ):
        _write(tls / name, content)


def _configuration(wishes: Wishes, cluster: str) -> str:
    development = "development = true        # a development root: never for real patient data\n\n" if wishes.development else ""
    return (
        f"# Keyclave. docs/configuration.md explains every setting; unknown ones are refused.\n{development}"
        f"[log]\norigin = {_quoted(wishes.origin)}  # in every checkpoint: never changes\n\n"
        f"[listen]\nhost = {_quoted(wishes.host)}\nport = {wishes.port}\n\n{_data(wishes)}{_store(wishes, cluster)}"
        '[policy]\nplain_context = ["purpose"]  # context values that the log may show; all others are recorded as keyed hashes\n'
        f"destruction_days = {0 if wishes.development else 7}  # the least waiting period before a key version is destroyed\n"
    )


def _store(wishes: Wishes, cluster: str) -> str:
    return "" if wishes.store is None or not wishes.store.url else store_lines(wishes.store, cluster)


def _data(wishes: Wishes) -> str:
    """Return the listener where keys are used, when it is to be one of its own; [listen] then only manages."""
    if wishes.data_port is None:
        return ""
    return f"[data]\nhost = {_quoted(wishes.host)}\nport = {wishes.data_port}\n\n"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes | memoryview) -> None:
    """Write a new file that only its owner reads, durable before the ceremony goes on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        at = 0
        while at < len(content):
            at += os.write(descriptor, content[at:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

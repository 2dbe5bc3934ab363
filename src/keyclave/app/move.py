"""`keyclave migrate-store`: a home's whole store into another one, a database or a file, verified before it is believed.

Order of acts, and what is true if we die after each:
    1  copied and compared     in one transaction of the target: it is empty, the source serves
    2  committed, as incoming  the target refuses to serve, the source serves
    3  source marked as gone   neither serves; the same command again goes on from here
    4  last look at the source nobody serves it, and nothing was added; else the mark is taken back
    5  target has arrived      it may serve; the same command again goes on from here
    6  keyclave.toml names it
The mark comes before the last look: a node that nobody saw, frozen or cut off, gets no lease on a store that is marked. What was
added before is seen by the look, what comes after is answered to nobody.

Compared are all rows, the log's root at its end and at its last checkpoint, and every key version: it is opened under the root
and its check value compared with the one that was noted when it was made.
"""

from __future__ import annotations

import getpass
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import psycopg
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from keyclave.app import wiring
from keyclave.app.alone import alone
from keyclave.app.config import Config, StoreSection
from keyclave.app.database import address_of, migrate_in, owner_of
from keyclave.app.settings_file import name_store
from keyclave.audit.tree import Tree
from keyclave.core.clock import SystemClock
from keyclave.core.errors import Broken, KeyclaveError, Malformed, Unavailable
from keyclave.crypto.arena import slot_from
from keyclave.crypto.digest import leaf_hash
from keyclave.crypto.module import CryptoModule
from keyclave.operations.keyring import Keyring
from keyclave.operations.vault import Vault
from keyclave.store import key_rows, log_rows, meta_rows, moving, places, versions
from keyclave.store import schema as s
from keyclave.store.embedded import file
from keyclave.store.interface import Store
from keyclave.store.pg import checks, faults
from keyclave.store.pg.connections import driver_of

T = TypeVar("T")
Say = Callable[[str], object]
_AGAIN = "look at both stores and their disks, then run the same command again: it goes on, or says what is left to do"
_KEEP = "keep the old store as it is, and compare it with a backup"
_CHUNK = 4096  # entries hashed at a time


class _Reading:
    """A connection, for those who only read from a store."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` inside the transaction at hand."""
        return fn(self._conn)


def move(home: Path, config: Config, to: StoreSection | Path, shares: list[str], say: Say) -> None:
    """Move the store of `home` to a database or to a new file."""
    _only_its_owner(home)
    try:
        with ExitStack() as held:
            held.enter_context(alone(home))
            source = held.enter_context(_open(_now(home, config), home, config))
            fresh = isinstance(to, Path) and _make_file(to)
            target = held.enter_context(_open(to, home, config))
            if isinstance(to, StoreSection):
                _prepare(target, config)
            cluster = _move(source, target, home, config, shares, say, fresh=fresh)
        name_store(home, to, cluster)
    except (sqlite3.Error, *faults.FAULTS) as fault:
        raise Unavailable(f"one of the two stores failed: {_said(fault)}", _AGAIN) from fault
    except OSError as fault:
        raise Unavailable(f"{fault.filename or home}: {fault.strerror}", _AGAIN) from fault
    say(f"{home} now serves the new store; the old one refuses to serve and may be kept as a backup")


def _move(source: Connection, target: Connection, home: Path, config: Config, shares: list[str], say: Say, *, fresh: bool) -> str:
    """Do what is still to be done of the acts 1 to 5; return whose store the target is."""
    gone = meta_rows.read_meta(source, versions.MOVED)
    incoming = meta_rows.read_meta(target, versions.INCOMING)
    if gone is None:
        if incoming is not None or not (fresh or moving.is_empty(target)):
            raise Malformed(
                "the target is not empty: it holds another store, or a move that was cut short",
                "name a new file, or drop the database and create it again",
            )
        gone = _fill(source, target, home, config, shares, say)
        _mark(source, gone)
    elif gone not in (incoming, meta_rows.read_meta(target, versions.ARRIVED)):
        raise Malformed(
            "this store was moved away already, to another one",
            "if keyclave.toml still names this one, name the store that it was moved to with --to again",
        )
    if gone != meta_rows.read_meta(target, versions.ARRIVED):
        _look_again(source, target)
        _finish(target, gone, say)
    return (meta_rows.read_meta(target, versions.CLUSTER) or b"").decode()


def _only_its_owner(home: Path) -> None:
    """Refuse another user, root above all: what is made here would be theirs, and the server could not open it."""
    owner = home.stat().st_uid
    if owner != os.geteuid():
        raise Malformed(f"{home} belongs to user {owner}, and this is user {os.geteuid()}", "run this as the user who serves it")


def _said(fault: BaseException) -> str:
    """Return what a store said of its fault, without the rows that it was about."""
    inner = getattr(fault, "orig", None) or fault
    primary = inner.diag.message_primary if isinstance(inner, psycopg.Error) else None
    return primary or str(inner).split("\n", 1)[0]


# ---- the acts -------------------------------------------------------------------------------------------------------------
def _fill(source: Connection, target: Connection, home: Path, config: Config, shares: list[str], say: Say) -> bytes:
    """Copy, compare and commit; the target is marked as incoming. Return the move's name."""
    module = wiring.new_module()
    name = module.random(16).hex().encode()
    with _transaction(source), _transaction(target):
        _nobody_serves(source)
        counts = moving.copy(source, target)
        say(f"copied {sum(counts.values())} rows of {len(counts)} tables")
        moving.compare(source, target)
        say("compared: every row is the same")
        placed = moving.place_rest(target)
        end, root = _hash_log(target)
        _check_log(source, target, placed, end, root)
        say(f"the log has {end} events and the root {root.hex()}")
        opened = _open_keys(target, home, module, shares, development=config.development)
        say(f"opened {opened} key versions and compared their check values")
        meta_rows.write_meta(target, versions.INCOMING, name)
        if meta_rows.read_meta(target, versions.CLUSTER) is None:
            kept = meta_rows.read_meta(source, versions.CLUSTER)
            meta_rows.write_meta(target, versions.CLUSTER, kept or module.random(8).hex().encode())
    return name


def _mark(source: Connection, name: bytes) -> None:
    """From here on no node gets a lease on the source, and no server starts on it."""
    with _transaction(source):
        meta_rows.write_meta(source, versions.MOVED, name)


def _look_again(source: Connection, target: Connection) -> None:
    """See that the marked source holds nothing that the target does not, and that nobody serves it; else take the mark back."""
    try:
        _nobody_serves(source)
        if moving.extent(source) != moving.extent(target):
            raise Unavailable(
                "the store was written while it was copied", "stop every server, and run the move again into an empty target"
            )
    except KeyclaveError:
        with _transaction(source):
            source.execute(s.meta.delete().where(s.meta.c.name == versions.MOVED))
        raise


def _finish(target: Connection, name: bytes, say: Say) -> None:
    with _transaction(target):
        target.execute(s.meta.delete().where(s.meta.c.name == versions.INCOMING))
        meta_rows.write_meta(target, versions.ARRIVED, name)
    say("the old store is marked as moved, the new one is ready")


def _nobody_serves(source: Connection) -> None:
    nodes = moving.serving(source)
    if nodes:
        raise Unavailable(f"nodes serve this store: {', '.join(nodes)}", "stop every server, then move it")


def _hash_log(conn: Connection) -> tuple[int, bytes]:
    """Hash the whole log anew; full tiles that are kept must agree, and those that are missing are kept. Return end and root."""
    tree = Tree()
    while entries := places.read_log(conn, tree.size, _CHUNK):
        for tile in tree.append_many(leaf_hash(entry) for entry in entries):
            kept = log_rows.read_tile(conn, tile.level, tile.index)
            if kept is None:
                log_rows.keep_tiles(conn, {(tile.level, tile.index): tile.data})
            elif kept != tile.data:
                raise Broken(f"tile {tile.index} of level {tile.level} is not that of the log", "verify an export of the record")
    if tree.size != places.head(conn):
        raise Broken(f"the log should reach {places.head(conn)} and ends at {tree.size}", "verify an export of the record")
    return tree.size, tree.root()


def _check_log(source: Connection, target: Connection, placed: int, end: int, root: bytes) -> None:
    if places.head(source) + placed != end:
        raise Broken("the two logs have different lengths", "run the move again; nothing has changed")
    signed = log_rows.last_checkpoint(target)
    if signed is None:
        return
    tree = Tree()
    while tree.size < signed[0]:
        entries = places.read_log(source, tree.size, min(_CHUNK, signed[0] - tree.size))
        if not entries:
            raise Broken("the log ends before its last checkpoint: its tail is gone", "verify an export of the record")
        tree.append_many(leaf_hash(entry) for entry in entries)
    if tree.root() != signed[1]:
        raise Broken("the log is not the one that was signed", "verify an export of the record")


def _open_keys(conn: Connection, home: Path, module: CryptoModule, shares: list[str], *, development: bool) -> int:
    """Open every key version under the root and compare its check value; return how many."""
    store: Store = _Reading(conn)  # type: ignore[assignment]
    vault = wiring.read_vault(store, module, SystemClock(), development=development)
    _open_root(vault, home, shares, development=development)
    keyring = Keyring(store, module, 1)
    try:
        keyring.unseal(vault.root)
        opened = 0
        for key, materials in key_rows.every_key(conn):
            for version in key.versions:
                material = materials.get(version.number)
                if material is None:
                    continue  # destroyed: there is nothing to open
                try:
                    with keyring.open(key, material) as slot:
                        check = module.key_check(slot)
                except KeyclaveError as fault:
                    raise Broken(f"version {version.number} of {key.id} does not open", _KEEP) from fault
                if check != version.kcv:
                    raise Broken(f"version {version.number} of {key.id} has another check value", _KEEP)
                opened += 1
        return opened
    finally:
        keyring.seal()
        vault.seal()


def _open_root(vault: Vault, home: Path, shares: list[str], *, development: bool) -> None:
    if development and (home / wiring.DEVELOPMENT_ROOT).exists():
        with slot_from(bytearray((home / wiring.DEVELOPMENT_ROOT).read_bytes())) as recovery:
            vault.open_with(recovery)
        return
    given = iter(shares)
    while vault.sealed:
        share = next(given, None) or getpass.getpass(f"Share {vault.received + 1} of {vault.threshold}: ")
        vault.offer(share.strip())


# ---- the two stores -------------------------------------------------------------------------------------------------------
def _now(home: Path, config: Config) -> StoreSection | Path:
    return config.store if config.store.url else home / config.database


@contextmanager
def _open(where: StoreSection | Path, home: Path, config: Config) -> Iterator[Connection]:
    if isinstance(where, StoreSection):
        with owner_of(address_of(where, home, development=config.development)) as conn:
            yield conn
        return
    if not where.exists():
        raise Unavailable(f"there is no database at {where}", "name the home that is in use")
    engine = create_engine("sqlite://", creator=lambda: file.connect(where), poolclass=NullPool, hide_parameters=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        yield conn
    engine.dispose()


def _make_file(path: Path) -> bool:
    """Make a new file, or take an empty one that an earlier move left; tell whether it is new. Nothing else is touched.

    A link is refused, wherever it leads: whoever may write to its folder would choose the place.
    """
    if path.is_symlink() or not path.parent.is_dir():
        raise Malformed(f"{path} is a link, or in no folder", "name a new file in a folder that exists")
    if not path.exists():
        file.create(path, "")
        return True
    if not path.is_file() or not file.is_ours(path):
        raise Malformed(f"{path} is there already, and is no empty store", "name a new file")
    return False


def _prepare(conn: Connection, config: Config) -> None:
    """See that the database can take it; the schema is made where the user may make one."""
    checks.check_server(conn, development=config.development)
    if not checks.has_schema(conn):
        migrate_in(conn)


@contextmanager
def _transaction(conn: Connection) -> Iterator[None]:
    """One transaction on either engine, seen as it was at its beginning."""
    if conn.dialect.name == "sqlite":
        raw = conn.connection.driver_connection
        begin = "BEGIN IMMEDIATE"
    else:
        raw, begin = driver_of(conn), "BEGIN ISOLATION LEVEL SERIALIZABLE"
    raw.execute(begin)  # type: ignore[union-attr]
    try:
        yield
    except BaseException:
        raw.execute("ROLLBACK")  # type: ignore[union-attr]
        raise
    raw.execute("COMMIT")  # type: ignore[union-attr]


def read_shares(path: Path | None) -> list[str]:
    """Return the shares in a file, one on each line; none where there is no file: they are asked for."""
    if path is None:
        return []
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as fault:
        raise Malformed(f"{path} cannot be read", "name a file with one share on each line") from fault

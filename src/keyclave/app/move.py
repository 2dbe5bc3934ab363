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

import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psycopg
from sqlalchemy import Connection

from keyclave.app import wiring
from keyclave.app.alone import alone
from keyclave.app.config import Config, StoreSection
from keyclave.app.move_ends import make_file, opened, prepare, source_of, transaction
from keyclave.app.move_proof import check_log, hash_log, open_keys
from keyclave.app.settings_file import name_store
from keyclave.core.errors import KeyclaveError, Malformed, Unavailable
from keyclave.store import meta_rows, moving, versions
from keyclave.store import schema as s
from keyclave.store.pg import faults

Say = Callable[[str], object]
_AGAIN = "look at both stores and their disks, then run the same command again: it goes on, or says what is left to do"


def move(home: Path, config: Config, to: StoreSection | Path, shares: list[str], say: Say) -> None:
    """Move the store of `home` to a database or to a new file."""
    _only_its_owner(home)
    try:
        with ExitStack() as held:
            held.enter_context(alone(home))
            source = held.enter_context(opened(source_of(home, config), home, config))
            fresh = isinstance(to, Path) and make_file(to)
            target = held.enter_context(opened(to, home, config))
            if isinstance(to, StoreSection):
                prepare(target, config)
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


def _fill(source: Connection, target: Connection, home: Path, config: Config, shares: list[str], say: Say) -> bytes:
    """Copy, compare and commit; the target is marked as incoming. Return the move's name."""
    module = wiring.new_module()
    name = module.random(16).hex().encode()
    with transaction(source), transaction(target):
        _nobody_serves(source)
        counts = moving.copy(source, target)
        say(f"copied {sum(counts.values())} rows of {len(counts)} tables")
        moving.compare(source, target)
        say("compared: every row is the same")
        placed = moving.place_rest(target)
        end, root = hash_log(target)
        check_log(source, target, placed, end, root)
        say(f"the log has {end} events and the root {root.hex()}")
        versions_opened = open_keys(target, home, module, shares, development=config.development)
        say(f"opened {versions_opened} key versions and compared their check values")
        meta_rows.write_meta(target, versions.INCOMING, name)
        if meta_rows.read_meta(target, versions.CLUSTER) is None:
            kept = meta_rows.read_meta(source, versions.CLUSTER)
            meta_rows.write_meta(target, versions.CLUSTER, kept or module.random(8).hex().encode())
    return name


def _mark(source: Connection, name: bytes) -> None:
    """From here on no node gets a lease on the source, and no server starts on it."""
    with transaction(source):
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
        with transaction(source):
            source.execute(s.meta.delete().where(s.meta.c.name == versions.MOVED))
        raise


def _finish(target: Connection, name: bytes, say: Say) -> None:
    with transaction(target):
        target.execute(s.meta.delete().where(s.meta.c.name == versions.INCOMING))
        meta_rows.write_meta(target, versions.ARRIVED, name)
    say("the old store is marked as moved, the new one is ready")


def _nobody_serves(source: Connection) -> None:
    nodes = moving.serving(source)
    if nodes:
        raise Unavailable(f"nodes serve this store: {', '.join(nodes)}", "stop every server, then move it")


def read_shares(path: Path | None) -> list[str]:
    """Return the shares in a file, one on each line; none where there is no file: they are asked for."""
    if path is None:
        return []
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as fault:
        raise Malformed(f"{path} cannot be read", "name a file with one share on each line") from fault

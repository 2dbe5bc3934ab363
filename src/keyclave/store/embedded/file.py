"""The database file: made, migrated and opened, each time with the settings that the store's promises rest on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from keyclave.core.errors import Broken, Unavailable

DATABASE_FAULTS = (sqlite3.Error, DBAPIError)
_BUSY_SECONDS = 10  # that a connection waits for others


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection."""
    conn = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False, cached_statements=512)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA foreign_keys = ON")
    conn.execute("PRAGMA recursive_triggers = ON")  # else INSERT OR REPLACE deletes rows without asking the guards
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    conn.execute("PRAGMA secure_delete = ON")  # the sealed material of a destroyed version is overwritten, not only unlinked
    conn.execute("PRAGMA cache_size = -4096")
    return conn


@contextmanager
def waiting(connection: sqlite3.Connection, milliseconds: int) -> Iterator[None]:
    """Inside, wait so long for others and no longer."""
    connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")


def create(path: Path, node: str) -> None:
    """Make the database file (mode 0600) with the newest schema; an existing file is refused."""
    from keyclave.store import migrations

    if path.exists():
        raise Unavailable(f"{path} exists already", "name another home; an existing one is never overwritten")
    path.touch(mode=0o600)
    migrations.upgrade(lambda: connect(path))
    store = connect(path)
    with store:
        store.execute("INSERT INTO meta (name, value) VALUES ('node', ?)", (node.encode(),))
    store.close()


def is_ours(path: Path) -> bool:
    """Tell whether a file that exists is a database of Keyclave, for its owner alone. It is only read."""
    if path.stat().st_mode & 0o077:
        return False
    conn = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        found = conn.execute(
            "SELECT count(*) FROM sqlite_master WHERE name IN ('alembic_version', 'meta', 'segments')"
        ).fetchone()
    except sqlite3.Error:
        return False
    finally:
        conn.close()
    return bool(found[0] == 2)


def migrate(path: Path) -> None:
    """Bring a database file to the newest schema. The caller sees to it that nobody serves it."""
    from keyclave.store import migrations

    must_exist(path)
    try:
        migrations.upgrade(lambda: connect(path))
    except DATABASE_FAULTS as fault:
        raise unavailable(fault) from fault


def must_exist(path: Path) -> None:
    """Refuse a path where no database is: only `create` makes one."""
    if not path.exists():
        raise Unavailable(f"there is no database at {path}", "run `keyclave init` first, or name another home")


def cannot_be_opened(path: Path, fault: BaseException) -> Broken | Unavailable:
    """Return why the file at `path` cannot be served."""
    if "full" in str(fault):
        return unavailable(fault)
    reason = getattr(fault, "orig", None) or fault
    return Broken(f"{path} cannot be opened: {reason}", "restore a backup; keep the file as evidence")


def unavailable(fault: BaseException) -> Unavailable:
    """Return what a caller is told whose request met a fault of the database."""
    if "full" in str(fault):
        return Unavailable("the disk is full: nothing was done", "free space on the server's disk and repeat the request")
    return Unavailable(
        "the database does not answer: it is not known whether this was done",
        "repeat the request with the same idempotency key; if it persists see `keyclave doctor`",
    )

"""Units for the store's tests, and a connection that fails where the test says."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from keyclave.store import meta_rows, node_tables, places, schema
from keyclave.store.embedded import file
from keyclave.store.insertions import Insertion, Rows
from keyclave.store.pg.address import read_address
from keyclave.store.postgres import PostgresStore
from keyclave.store.sqlite import SqliteStore
from tests.postgres import Database

Change = Callable[[Connection], object]
AnyStore = SqliteStore | PostgresStore

FULL = "database or disk is full"
ADDED = Insertion(schema.meta, ("name", "value"))


@dataclass
class Note:
    """A unit that leaves `events` events saying its name, after its change, and remembers what became of it."""

    name: str
    events: int = 1
    act: Change | None = None
    diary: list[str] | None = None
    told: list[Exception | None] = field(default_factory=list)
    first: int = -1
    refusal: Exception | None = None
    touches: tuple[str, ...] = ()
    rests_on: tuple[str, ...] = ()
    began_again: int = 0
    drafts: bool = False  # whether the diary is to tell
    adds: tuple[str, ...] = ()  # settings that it only adds
    tries: int = 0
    changes: bool = field(init=False)
    asks: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.adds and self.act is None:
            self.act = lambda conn: ADDED.run(conn, [(name, b"") for name in self.adds])
        self.changes = self.asks = self.act is not None

    def add(self, rows: Rows, first: int) -> list[bytes]:
        self.first, self.tries = first, self.tries + 1
        for name in self.adds:
            rows.add(ADDED, (name, b""))
        return self._leaves("ok", first)

    def change(self, transaction: Connection, first: int) -> list[bytes]:
        self.first, self.tries = first, self.tries + 1
        if self.act is not None:
            self.act(transaction)
        return self._leaves("ok", first)

    def keep(self, first: int) -> list[bytes]:
        self.first = first
        return self._leaves("ok", first)

    def refused(self, error: Exception, first: int) -> list[bytes]:
        self.refusal = error
        return self._leaves("refused", first)

    def draft(self) -> None:
        if self.diary is not None and self.drafts:
            self.diary.append(f"draft {self.name}")

    def done(self, failure: Exception | None) -> None:
        self.told.append(failure)
        if self.diary is not None:
            self.diary.append(f"done {self.name}")

    def touched(self) -> list[tuple[str, str]]:
        return [("t", name) for name in self.touches] if self.refusal is None else []

    def void(self, names: list[tuple[str, str]]) -> bool:
        return any(("t", name) in names for name in self.rests_on)

    def again(self) -> None:
        self.began_again += 1

    def _leaves(self, outcome: str, first: int) -> list[bytes]:
        return [f"{first + i} {self.name} {outcome}".encode() for i in range(self.events)]


class Wire:
    """Stands before the store's writing connection: writes a diary of its statements and lets some of them fail."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self.real = real
        self.diary: list[str] = []
        self.whole: list[str] = []  # the same, to the last word
        self.fail: dict[str, list[Exception]] = {}  # beginning of a statement -> errors instead of running it
        self.fail_after: dict[str, list[Exception]] = {}  # … -> errors after it ran

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        self.diary.append(" ".join(statement.split()[:2]))
        self.whole.append(statement)
        self._raise(self.fail, statement)
        cursor = self.real.execute(statement, *parameters)
        self._raise(self.fail_after, statement)
        return cursor

    @staticmethod
    def _raise(planned: dict[str, list[Exception]], statement: str) -> None:
        for beginning, errors in planned.items():
            if statement.startswith(beginning) and errors:
                raise errors.pop(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@cache
def _fresh() -> bytes:
    """Return a new database's file, made once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keyclave.db"
        file.create(path, "0badcafe")
        return path.read_bytes()


def new_store(folder: Path, **more: Any) -> SqliteStore:
    """Open the database below `folder`, a new one if there is none."""
    path = folder / "keyclave.db"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_fresh())
    return SqliteStore(path, **more)


def wired(store: SqliteStore) -> Wire:
    """Put a `Wire` before the store's writing connection."""
    wire = Wire(store.line.raw)
    store.line.raw = wire  # type: ignore[assignment]
    return wire


def place(store: AnyStore) -> None:
    """Give every event in the journals its place in the log, in one transaction, as the sequencer does."""
    if isinstance(store, PostgresStore):
        store.write(_place)


def _place(conn: Connection) -> None:
    end = places.head(conn)
    rows = conn.exec_driver_sql(
        "SELECT j.node, j.first, j.count FROM journal j LEFT JOIN segments s ON s.node = j.node AND s.node_first = j.first "
        "WHERE s.first IS NULL ORDER BY j.node, j.first"
    )
    for node, first, count in list(rows):
        conn.execute(schema.segments.insert(), {"first": end, "count": count, "entries": None, "node": node, "node_first": first})
        end += count


def keep(store: AnyStore, *units: Note) -> None:
    """Have these kept, in one commit where they fit."""
    for unit in units:
        store.enqueue(unit)
    store.flush()


def kept(store: AnyStore) -> list[str]:
    """Return everything in the log, as text."""
    place(store)
    return [bytes(entry).decode() for entry in store.read_entries(0, 1_000_000)]


def segments(store: AnyStore) -> list[tuple[int, int]]:
    """Return (first, count) of each commit."""
    table = node_tables.journal if isinstance(store, PostgresStore) else schema.segments
    query = select(table.c.first, table.c.count).order_by(table.c.first)
    return store.read(lambda conn: [(r[0], r[1]) for r in conn.execute(query)])


def no_gaps(store: AnyStore) -> bool:
    """Tell whether the events are numbered from 0 without gaps, each under the number it was told."""
    expected = 0
    for first, count in segments(store):
        if first != expected:
            return False
        expected += count
    return all(int(entry.split()[0]) == number for number, entry in enumerate(kept(store))) and len(kept(store)) == expected


def remember(name: str, value: bytes) -> Change:
    """Return a change that writes a setting."""
    return lambda conn: conn.execute(schema.meta.insert(), {"name": name, "value": value})


def remembered(store: AnyStore, name: str) -> bytes | None:
    """Return a setting."""
    return store.read(lambda conn: meta_rows.read_meta(conn, name))


@contextmanager
def new_postgres(database: Database, node: str = "0badcafe", **more: Any) -> Iterator[PostgresStore]:
    """Open a database as a node, with the rights of a server."""
    made = PostgresStore(read_address(database.url()), node, **more)
    try:
        yield made
    finally:
        made.close()

"""The one connection that writes: its transactions, whose turn it is to begin one, and who makes it durable."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from keyclave.store.embedded.file import DATABASE_FAULTS, unavailable
from keyclave.store.embedded.syncs import Syncs
from keyclave.store.embedded.turns import NoTurns, Turns

T = TypeVar("T")

_HEAD = "SELECT first + count FROM segments ORDER BY first DESC LIMIT 1"


class Line:
    """`conn` is the connection as SQLAlchemy knows it, `raw` the driver's own: what is short and frequent goes there."""

    def __init__(self, engine: Engine, path: Path, *, shared: bool) -> None:
        self.turns = Turns(path) if shared else NoTurns()
        self.conn = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self.raw: sqlite3.Connection = self.conn.connection.driver_connection  # type: ignore[assignment]
        self._syncs = Syncs(path, self.raw)
        self.failing = False  # whether the last transaction came to nothing by a fault, or perhaps did

    def begin(self) -> None:
        """Wait for the turn, and begin."""
        self.turns.take()
        self._syncs.before()
        self.raw.execute("BEGIN IMMEDIATE")

    def commit(self, *, crowd: bool = False) -> None:
        """Commit. It is not durable before `wait` has returned; where a `crowd` waits for it, the disk begins at once."""
        self.raw.execute("COMMIT")
        self.turns.give()
        if crowd:
            self._syncs.start()

    def wait(self) -> None:
        """Return once what was committed is durable. If it raises, it is not known whether it is."""
        self._syncs.wait()
        self.failing = False

    def undo(self) -> None:
        """Undo what is open, if anything is, and give the turn back. One that could not be undone is no more than a wish."""
        try:
            if self.raw.in_transaction:
                self.raw.execute("ROLLBACK")
        finally:
            self.turns.give()

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a transaction of its own, for what leaves no event: tiles, checkpoints, the ceremony's first rows.

        Nobody reads any of it before it is durable, in other processes either: what a checkpoint that was shown covers must not
        be lost.
        """
        try:
            self._syncs.fully()
            self.begin()
            result = fn(self.conn)
            self.commit()
            self.wait()
        except BaseException as fault:
            self.undo()
            if isinstance(fault, DATABASE_FAULTS):
                self.failing = True
                raise unavailable(fault) from fault
            raise
        finally:
            if not self.raw.in_transaction:
                self._syncs.lazily()
        return result

    def head(self) -> int:
        """Return how many events the log holds."""
        row = self.raw.execute(_HEAD).fetchone()
        return 0 if row is None else int(row[0])

    def close(self) -> None:
        """Close the connection, and what it took turns by."""
        self.conn.close()
        self.turns.close()
        self._syncs.close()

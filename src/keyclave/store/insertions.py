"""Rows that are only added: by one statement for many of them, and those of many units together.

A row by itself costs a statement, and a unit by itself a savepoint, which keeps a copy of each page that it touches.
Together they are half of what a new key costs the embedded engine.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from keyclave.store.prepared import Prepared

_AT_ONCE = (16, 4, 1)  # rows of one statement: few lengths, for the engine keeps each statement compiled
Row = tuple[Any, ...]


class Insertion:
    """INSERT into a table, of rows that come as tuples in the order of `columns`."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._table = table
        self._named = Prepared(table.insert())

    def run(self, conn: Connection, rows: Sequence[Row]) -> None:
        """Insert them, in order. What breaks a rule of the schema is SQLAlchemy's `IntegrityError`."""
        driver = conn.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            self._named.run_many(conn, [dict(zip(self._columns, row, strict=True)) for row in rows])
            return
        try:
            self.run_embedded(driver, rows)
        except sqlite3.IntegrityError as fault:
            raise IntegrityError("INSERT", None, fault) from fault

    def run_embedded(self, driver: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Insert them by the embedded engine's driver, as many as there are by one statement. Errors as the driver has them."""
        at = 0
        for count, text in self._texts:
            while len(rows) - at >= count:
                driver.execute(text, [*chain.from_iterable(rows[at : at + count])])
                at += count

    @cached_property
    def _texts(self) -> list[tuple[int, str]]:
        one = str(self._table.insert().compile(dialect=sqlite.dialect(), column_keys=self._columns))
        head, values = one.split(" VALUES ")
        return [(count, f"{head} VALUES {', '.join([values] * count)}") for count in _AT_ONCE]


class Rows(dict[Insertion, list[Row]]):
    """Rows that wait to be inserted, by where they go. Tables come in the order in which they were first named."""

    def add(self, insertion: Insertion, *rows: Row) -> None:
        """Let these wait."""
        waiting = self.get(insertion)
        if waiting is None:
            self[insertion] = [*rows]
        else:
            waiting += rows

    def insert(self, driver: sqlite3.Connection) -> None:
        """Insert all that waits by the embedded engine's driver. Errors as the driver has them: half of it may be done then."""
        for insertion, rows in self.items():
            insertion.run_embedded(driver, rows)
        self.clear()

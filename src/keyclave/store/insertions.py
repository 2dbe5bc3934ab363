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
    """INSERT into a table, of rows that come as tuples in the order of `columns`.

    What many rows have in common is handed to the embedded engine once for all of them, in the order of `common`.
    """

    def __init__(self, table: Table, columns: Sequence[str], common: Sequence[str] = ()) -> None:
        self._columns = (*common, *columns)
        self._common = len(common)
        self._table = table
        self._named = Prepared(table.insert())

    def run(self, conn: Connection, rows: Sequence[Row]) -> None:
        """Insert rows without anything in common, in order. What breaks a rule of the schema is SQLAlchemy's `IntegrityError`."""
        driver = conn.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            self._named.run_many(conn, [dict(zip(self._columns, row, strict=True)) for row in rows])
            return
        try:
            self.run_embedded(driver, rows)
        except sqlite3.IntegrityError as fault:
            raise IntegrityError("INSERT", None, fault) from fault

    def run_embedded(self, driver: sqlite3.Connection, rows: Sequence[Row], common: Row = ()) -> None:
        """Insert them by the embedded engine's driver, as many as there are by one statement. Errors as the driver has them."""
        at = 0
        for count, text in self._texts:
            while len(rows) - at >= count:
                driver.execute(text, [*common, *chain.from_iterable(rows[at : at + count])])
                at += count

    @cached_property
    def _texts(self) -> list[tuple[int, str]]:
        return [(count, self._text(count)) for count in _AT_ONCE]

    def _text(self, count: int) -> str:
        quote = sqlite.dialect().identifier_preparer.quote
        own = len(self._columns) - self._common
        places = [f"?{number}" for number in range(1, self._common + own * count + 1)]
        rows = [f"({', '.join(places[at : at + own])})" for at in range(self._common, len(places), own)]
        values = ", ".join((*places[: self._common], *(f"column{number}" for number in range(1, own + 1))))
        names = ", ".join(map(quote, self._columns))
        head = f"INSERT INTO {quote(self._table.name)} ({names})"
        return f"{head} SELECT {values} FROM (VALUES {', '.join(rows)})"  # noqa: S608 - names of the schema, and places for values


class Rows(dict[Insertion, dict[Row, list[Row]]]):
    """Rows that wait to be inserted, by where they go and what they have in common.

    Tables come in the order in which they were first named.
    """

    def add(self, insertion: Insertion, row: Row, common: Row = ()) -> None:
        """Let this one wait."""
        alike = self.get(insertion)
        if alike is None:
            alike = self[insertion] = {}
        waiting = alike.get(common)
        if waiting is None:
            alike[common] = [row]
        else:
            waiting.append(row)

    def insert(self, driver: sqlite3.Connection) -> None:
        """Insert all that waits by the embedded engine's driver. Errors as the driver has them: half of it may be done then."""
        for insertion, alike in self.items():
            for common, rows in alike.items():
                insertion.run_embedded(driver, rows, common)
        self.clear()

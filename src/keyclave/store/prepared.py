"""Statements that run often enough for their rendering to matter: rendered once for each engine, then handed to its driver.

The statement is still written once, in SQLAlchemy Core, for every engine. What is saved is the work that Core does at each
execution (cache keys, type processors, result objects): about 60 microseconds of a key's creation. The embedded engine's driver
is called directly, which saves the rest: its transactions are begun and ended on the driver anyway (`keyclave.store.embedded`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.expression import Insert, Select, Update

Values = Callable[[Mapping[str, Any]], Any]  # named parameters as the driver takes them


class Prepared:
    """A statement with named parameters whose values the drivers take as they are: text, whole numbers, bytes, truth, none."""

    def __init__(self, statement: Insert | Update | Select[Any]) -> None:
        self._statement = statement
        self._rendered: dict[str, tuple[str, Values]] = {}

    def run(self, conn: Connection, parameters: Mapping[str, Any]) -> int:
        """Execute it and return how many rows it touched. What breaks a rule of the schema is SQLAlchemy's `IntegrityError`."""
        text, values = self._rendered.get(conn.dialect.name) or self._render(conn, parameters)
        driver = conn.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            return conn.exec_driver_sql(text, values(parameters)).rowcount
        try:
            return driver.execute(text, values(parameters)).rowcount
        except sqlite3.IntegrityError as fault:
            raise IntegrityError(text, None, fault) from fault

    def run_many(self, conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute it for each of these, in order. Errors as `run`."""
        if rows:
            text, values = self._rendered.get(conn.dialect.name) or self._render(conn, rows[0])
            conn.exec_driver_sql(text, [values(row) for row in rows])

    def _render(self, conn: Connection, parameters: Mapping[str, Any]) -> tuple[str, Values]:
        compiled = self._statement.compile(dialect=conn.dialect, column_keys=list(parameters))
        values: Values = dict
        if compiled.positional and compiled.positiontup is not None:
            names = list(compiled.positiontup)
            values = itemgetter(*names) if len(names) > 1 else lambda parameters: (parameters[names[0]],)
        rendered = self._rendered[conn.dialect.name] = (compiled.string, values)
        return rendered

"""Statements that run often enough for their rendering to matter: rendered once for each engine, then handed to its driver.

The statement is still written once, in SQLAlchemy Core, for every engine. What is saved is the work that Core does at each
execution (cache keys, type processors, result objects): about 60 microseconds of a key's creation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.expression import Insert, Select, Update


class Prepared:
    """A statement with named parameters whose values the drivers take as they are: text, whole numbers, bytes, truth, none."""

    def __init__(self, statement: Insert | Update | Select[Any]) -> None:
        self._statement = statement
        self._rendered: dict[str, tuple[str, list[str] | None]] = {}

    def run(self, conn: Connection, parameters: Mapping[str, Any]) -> int:
        """Execute it and return how many rows it touched."""
        rendered = self._rendered.get(conn.dialect.name) or self._render(conn, parameters)
        text, order = rendered
        bound: Any = parameters if order is None else tuple(parameters[name] for name in order)
        return conn.exec_driver_sql(text, bound).rowcount

    def _render(self, conn: Connection, parameters: Mapping[str, Any]) -> tuple[str, list[str] | None]:
        compiled = self._statement.compile(dialect=conn.dialect, column_keys=list(parameters))
        order = list(compiled.positiontup) if compiled.positional and compiled.positiontup is not None else None
        rendered = self._rendered[conn.dialect.name] = (compiled.string, order)
        return rendered

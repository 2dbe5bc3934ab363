"""What lies in a store, for whoever got hold of the disk: as bytes to search, and as rows to read and to change past every guard."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from tests.postgres import Database

REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError)
"""What is raised by the guards of a store past which somebody writes."""

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"


def stored_bytes(home: Path, database: Database | None) -> bytes:
    """Return all that is stored: the file with its write-ahead log, or every table as PostgreSQL keeps it."""
    if database is None:
        files = sorted(home.glob("keyclave.db*"))
        assert files
        return b"".join(path.read_bytes() for path in files)
    found = bytearray()
    with database.connect() as conn:
        for (table,) in conn.execute(_TABLES).fetchall():
            with conn.cursor().copy(f"COPY {table} TO STDOUT (FORMAT binary)") as rows:
                for piece in rows:
                    found += piece
    return bytes(found)


def stored_rows(home: Path, database: Database | None) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table, by the names of its columns."""
    if database is not None:
        with database.connect() as conn:
            cursor = conn.cursor(row_factory=dict_row)
            names = [row[0] for row in conn.execute(_TABLES).fetchall()]
            return {table: cursor.execute(f"SELECT * FROM {table}").fetchall() for table in names}
    with closing(sqlite3.connect(home / "keyclave.db")) as file:
        file.row_factory = sqlite3.Row
        tables = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: [dict(row) for row in file.execute(f"SELECT * FROM {table}")] for table in tables}


def change_rows(home: Path, database: Database | None, *statements: str) -> None:
    """Change what is stored, as somebody would who has taken the guards away."""
    if database is not None:
        with database.connect() as conn:
            conn.execute("SET session_replication_role = replica")  # no trigger runs
            for statement in statements:
                conn.execute(statement)
        return
    with closing(sqlite3.connect(home / "keyclave.db", isolation_level=None)) as file:
        for (trigger,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            file.execute(statement)

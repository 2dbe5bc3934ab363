"""Migrations (Alembic), run by `keyclave init` and `keyclave migrate`, never by the server: it only checks that it is current.

One set of scripts serves both engines. On PostgreSQL the guards, the privileges and the order of text are put in place after the
scripts, in the same transaction, from the one place in the code that says what they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from keyclave.store import versions
from keyclave.store.pg import guards, privileges

HERE = Path(__file__).parent
_LOCK = 7_452_018  # one migration at a time: an advisory lock of this number


def config() -> Config:
    """Return Alembic's configuration for the scripts beside this file."""
    settings = Config()
    settings.set_main_option("script_location", str(HERE))
    settings.set_main_option("path_separator", "os")
    return settings


def upgrade(connect: Callable[[], sqlite3.Connection]) -> None:
    """Bring a SQLite database to the newest schema, in one transaction."""
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    with engine.connect() as conn:
        conn.exec_driver_sql("BEGIN IMMEDIATE")  # the driver begins none by itself: whoever is killed leaves what was there
        run(conn)
        versions.mark(conn)
        conn.commit()
    engine.dispose()


def upgrade_postgres(conn: Connection) -> None:
    """Bring a PostgreSQL database to the newest schema, with its guards and privileges. The caller commits.

    `conn` belongs to the owner, inside a transaction: whoever comes second waits and finds everything done.
    """
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    run(conn)
    privileges.sort_by_bytes(conn)
    for statement in guards.statements():
        conn.exec_driver_sql(statement.replace("%", "%%"))
    privileges.grant(conn)
    versions.mark(conn)


def run(conn: Connection, target: str = "head") -> None:
    """Run the scripts up to `target` on a connection."""
    settings = config()
    settings.attributes["connection"] = conn
    command.upgrade(settings, target)

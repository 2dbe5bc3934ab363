"""Which schema a database has, and whether this program may serve it.

A program and a database may differ by one version where both sides say that it is safe: so nodes are replaced one by one.
The program names the oldest schema it serves; the database names, in `meta`, the oldest program that may serve it.
"""

from __future__ import annotations

from sqlalchemy import Connection

from keyclave.core.errors import Broken
from keyclave.store import records

REVISION = "0009"
"""The schema of this program: the newest migration."""
OLDEST_SERVED = "0009"
"""The oldest schema that this program serves."""
OLDEST_PROGRAM = "0009"
"""The oldest program, by its schema, that may go on serving a database of `REVISION`."""
SCHEMA_MIN = "schema_min"


def revision_of(conn: Connection) -> str:
    """Return the database's schema; the caller knows that it has one."""
    return str(conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def mark(conn: Connection) -> None:
    """Say which programs may serve this database from now on."""
    records.write_meta(conn, SCHEMA_MIN, OLDEST_PROGRAM.encode())


def check(conn: Connection) -> None:
    """Refuse a database that is too new or too old for this program."""
    found = revision_of(conn)
    if found < OLDEST_SERVED:
        raise Broken(
            f"the database has schema {found}, too old for this program, which needs {REVISION}",
            "run `keyclave migrate` with the owner's account, then start again",
        )
    if found > REVISION:
        oldest = (records.read_meta(conn, SCHEMA_MIN) or found.encode()).decode()
        if oldest > REVISION:
            raise Broken(
                f"the database has schema {found}, too new for this program, which knows {REVISION}",
                "start the newer version of Keyclave that migrated it",
            )

"""Which schema a database has, and whether this program may serve it.

A program and a database may differ by one version where both sides say that it is safe: so nodes are replaced one by one.
The program names the oldest schema it serves; the database names, in `meta`, the oldest program that may serve it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlalchemy import Connection

from keyclave.core.errors import Broken
from keyclave.store import meta_rows

COMPATIBLE: dict[str, str] = {}
"""A schema, and the schema before it that differs so little that programs of both may serve a database of either."""
SCHEMA_MIN = "schema_min"
CLUSTER = "cluster"  # the installation's name
INCOMING = "move.incoming"  # of a store that is being filled: the name of the move
MOVED = "move.gone"  # of a store that was moved away: the name of the move
ARRIVED = "move.arrived"  # of a store that was filled and may serve: the name of the move
OWN_MARKS = (SCHEMA_MIN, CLUSTER, INCOMING, MOVED, ARRIVED)
"""Rows of `meta` that are about this very store, and do not move with the rest."""


@cache
def revision() -> str:
    """Return the schema of this program: the newest migration, told by its file's name, without importing Alembic."""
    return max(path.name[:4] for path in (Path(__file__).parent / "migrations/versions").glob("[0-9]*.py"))


def oldest() -> str:
    """Return the oldest schema that this program serves, which is also the oldest program that may serve this schema."""
    return COMPATIBLE.get(revision(), revision())


def revision_of(conn: Connection) -> str:
    """Return the database's schema; the caller knows that it has one."""
    return str(conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def mark(conn: Connection) -> None:
    """Say which programs may serve this database from now on."""
    meta_rows.write_meta(conn, SCHEMA_MIN, oldest().encode())


def check(conn: Connection) -> None:
    """Refuse a database that is too new or too old for this program, that was moved away, or that has not arrived."""
    _check_revision(conn)
    check_here(conn)
    if meta_rows.read_meta(conn, INCOMING) is not None:
        raise Broken(
            "a move into this store was not finished", "run the same `keyclave migrate-store` again, or serve the old store"
        )


def check_here(conn: Connection) -> None:
    """Refuse a store that was moved away."""
    if meta_rows.read_meta(conn, MOVED) is not None:
        raise Broken(
            "this store was moved away: what is done in another one since is not here",
            "serve the one it was moved to; keep this one only as a backup",
        )


def _check_revision(conn: Connection) -> None:
    found = revision_of(conn)
    if found < oldest():
        raise Broken(
            f"the database has schema {found}, too old for this program, which needs {revision()}",
            "run `keyclave migrate` with the owner's account, then start again",
        )
    if found > revision():
        _check_least(found, meta_rows.read_meta(conn, SCHEMA_MIN) or found.encode())


def check_still(conn: Connection) -> None:
    """Refuse a store that was moved away, or migrated beyond this program, while it was served."""
    check_here(conn)
    _check_least(revision_of(conn), meta_rows.read_meta(conn, SCHEMA_MIN) or b"")


def _check_least(found: str, least: bytes) -> None:
    if least.decode() > revision():
        raise Broken(
            f"the database has schema {found}, too new for this program, which knows {revision()}",
            "start the newer version of Keyclave that migrated it",
        )

"""What is asked of a database before it is used: that it keeps what it is given, and that it is this home's."""

from __future__ import annotations

import contextlib
import os

from sqlalchemy import Connection
from sqlalchemy.exc import InvalidRequestError

from keyclave.core.errors import Broken, Malformed, Unavailable
from keyclave.store import meta_rows, schema, versions
from keyclave.store.columns import metadata
from keyclave.store.pg import faults
from keyclave.store.pg.guards import guards
from keyclave.store.pg.privileges import VERSION_TABLE, permitted

LEAST_VERSION = 150_000
_SESSION = "keyclave.session"
_MARK = f"SELECT pg_backend_pid(), set_config('{_SESSION}', %s, false)"
_MARKED = f"SELECT pg_backend_pid(), current_setting('{_SESSION}', true)"
_MAY = "SELECT has_table_privilege(current_user, %s, %s)"
_GUARDS = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND t.tgenabled = 'A'"""
_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"


def check_sessions(conn: Connection, other: Connection) -> None:
    """Refuse a connection pooler that gives each transaction another session: locks, settings and NOTIFY would be lost.

    Both connections mark their sessions and look again, the second one while the first holds a transaction open.
    """
    marks = [os.urandom(8).hex(), os.urandom(8).hex()]
    first = conn.exec_driver_sql(_MARK, (marks[0],)).one()[0]
    second = other.exec_driver_sql(_MARK, (marks[1],)).one()[0]
    conn.exec_driver_sql("BEGIN")
    found: list[tuple[object, ...]] = []
    with contextlib.suppress(*faults.FAULTS):  # a pooler with one session lets the second wait for ever
        found = [tuple(one.exec_driver_sql(_MARKED).one()) for one in (other, conn)]
    with contextlib.suppress(*faults.FAULTS, InvalidRequestError):
        conn.exec_driver_sql("ROLLBACK")
    if found != [(second, marks[1]), (first, marks[0])]:
        raise Unavailable(
            "a connection pooler stands before the database and shares sessions between transactions",
            "connect to the database itself, or set the pooler to session mode",
        )


def check(conn: Connection, *, development: bool, cluster: str | None) -> None:
    """Refuse a database that is too old, does not keep what it is given, lacks something, or belongs to somebody else."""
    check_server(conn, development=development)
    if not has_schema(conn):
        raise Broken("the database has no schema", "run `keyclave migrate` with the owner's account first")
    versions.check(conn)
    _check_guards(conn)
    _check_privileges(conn, development=development)
    check_cluster(conn, cluster)


def check_server(conn: Connection, *, development: bool) -> None:
    """Refuse a server that cannot keep the promise of a durable log."""
    number = int(conn.exec_driver_sql("SHOW server_version_num").scalar_one())
    if number < LEAST_VERSION:
        raise Unavailable(
            f"the database is PostgreSQL {number // 10_000}, and {LEAST_VERSION // 10_000} is the oldest that is supported",
            "upgrade it",
        )
    if conn.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        raise Unavailable("only a standby was reached, none that takes writes", "name the primary too, or wait for a failover")
    if conn.exec_driver_sql("SHOW server_encoding").scalar_one() != "UTF8":
        raise Malformed("the database's encoding is not UTF8", "create it anew: CREATE DATABASE … ENCODING 'UTF8'")
    for setting in () if development else ("fsync", "synchronous_commit"):
        value = conn.exec_driver_sql(f"SHOW {setting}").scalar_one()
        if value in ("off", "local"):  # `local` waits for no standby: a failover forgets what was acknowledged
            raise Malformed(
                f"{setting} is {value} in the database: what it acknowledges may be lost",
                f"turn {setting} on in its postgresql.conf, and for this user and database",
            )


def has_schema(conn: Connection) -> bool:
    """Tell whether anything was ever migrated here."""
    return bool(conn.exec_driver_sql(_EXISTS, (f"public.{VERSION_TABLE}",)).scalar_one())


def _check_guards(conn: Connection) -> None:
    """Refuse a database that lost a trigger, in a restore for instance. One of a neighbouring version has its own."""
    if versions.revision_of(conn) != versions.revision():
        return
    found = {(str(table), str(name)) for table, name in conn.exec_driver_sql(_GUARDS)}
    for guard in guards():
        if (guard.table, guard.name) not in found:
            raise Broken(
                f"the database is without its guard {guard.name} on {guard.table}",
                "run `keyclave migrate` with the owner's account, which puts it back, and find out who took it away",
            )


def _check_privileges(conn: Connection, *, development: bool) -> None:
    for table in metadata.sorted_tables:
        for verb in permitted(table.name).split(", "):
            if not conn.exec_driver_sql(_MAY, (table.name, verb)).scalar_one():
                raise Malformed(
                    f"the database's user has no right to {verb} on {table.name}",
                    "run `keyclave migrate` with the owner's account, and log in as keyclave_app or a member of it",
                )
    for name in () if development else schema.APPEND_ONLY:
        for verb in ("UPDATE", "DELETE", "TRUNCATE"):
            if conn.exec_driver_sql(_MAY, (name, verb)).scalar_one():
                raise Malformed(
                    f"the database's user has a right to {verb} on {name}, which holds the record",
                    "log in as keyclave_app, which may only add to it; the owner is for `keyclave migrate`",
                )


def check_cluster(conn: Connection, cluster: str | None) -> None:
    """Refuse a database that belongs to another installation."""
    if cluster is None:
        return
    found = (meta_rows.read_meta(conn, versions.CLUSTER) or b"").decode()
    if found != cluster:
        raise Malformed(
            f"the database belongs to installation {found or 'nobody'}, and this home to {cluster or 'none'}",
            "correct `url` in [store]: two installations never share a database",
        )

"""What the schema forbids on PostgreSQL: the servers' role, its owner, and even an administrator who plays a replica.

Rules on single rows are in test_rules.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from keyclave.keys.states import GONE, State
from keyclave.store import schema
from tests.postgres import APP, OWNER, SUPERUSER, Database, new_database
from tests.store.test_guards import CREDENTIAL, KEY, VERSION
from tests.store.units import Note, new_postgres

Raw = psycopg.Connection[Any]
PG_VERSION = {**VERSION, "is_primary": True}


def insert(conn: Raw, table: str, **row: Any) -> None:
    marks = ", ".join("%s" for _ in row)
    conn.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


@pytest.fixture(scope="module")
def untouched() -> Iterator[Database]:
    """A database for those who are refused whatever they try."""
    with new_database() as made:
        yield made


@pytest.fixture
def rows(database: Database) -> Iterator[Raw]:
    """A database with rows in the tables of the log and of keys; the connection is an administrator's."""
    with new_postgres(database) as store:
        store.enqueue(Note("event"))
        store.flush()
        store.keep_checkpoint(1, bytes(32), "note", 1)
    with database.connect() as conn:
        insert(conn, "segments", first=0, count=1, node="0badcafe", node_first=0)
        insert(conn, "log_tiles", level=0, number=0, hashes=bytes(8192))
        insert(conn, "tenants", id="t", name="home", home=True, created_at=1)
        insert(conn, "keys", **KEY)
        insert(conn, "key_versions", **PG_VERSION)
        insert(conn, "principals", tenant="t", name="p", role="auditor", created_at=1)
        insert(conn, "credentials", **CREDENTIAL)
        yield conn


@pytest.mark.requirement("R5", "R40")
@pytest.mark.parametrize("table", schema.APPEND_ONLY)
@pytest.mark.parametrize("verb", ["UPDATE", "DELETE", "TRUNCATE"])
def test_the_record_is_append_only_whoever_asks(untouched: Database, table: str, verb: str) -> None:
    with untouched.connect() as conn:
        column = conn.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position", (table,)
        ).fetchone()
    assert column is not None
    statement = {
        "UPDATE": f'UPDATE {table} SET "{column[0]}" = "{column[0]}"',
        "DELETE": f"DELETE FROM {table}",
        "TRUNCATE": f"TRUNCATE {table} CASCADE",
    }[verb]
    with untouched.connect(APP) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement)
    for user in (OWNER, SUPERUSER):
        with (
            untouched.connect(user) as conn,
            pytest.raises(psycopg.errors.IntegrityConstraintViolation, match=f"^{table} is append-only"),
        ):
            conn.execute(statement)
    with untouched.connect() as conn:
        conn.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match=f"^{table} is append-only"):
            conn.execute(statement)


@pytest.mark.requirement("R13", "R23")
@pytest.mark.parametrize("table", schema.UNDYING)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_history_is_not_deleted(untouched: Database, table: str, statement: str) -> None:
    with untouched.connect(APP) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.format(table))
    with untouched.connect() as conn:
        conn.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match=f"^{table} keeps its history"):
            conn.execute(statement.format(table))


@pytest.mark.requirement("R40")
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (x int)",
        "CREATE TEMPORARY TABLE more (x int)",
        "ALTER TABLE journal DISABLE TRIGGER ALL",
        "ALTER TABLE journal ADD COLUMN x int",
        "DROP TABLE journal",
        "DROP TRIGGER journal_no_delete ON journal",
        "CREATE OR REPLACE FUNCTION keyclave_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "SET session_replication_role = replica",
        "UPDATE alembic_version SET version_num = '0001'",
        "COPY journal TO PROGRAM 'cat'",
        "SET ROLE keyclave_owner",
    ],
)
def test_the_servers_role_makes_and_unmakes_nothing(untouched: Database, statement: str) -> None:
    with untouched.connect(APP) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement)


@pytest.mark.requirement("R5", "R40")
@pytest.mark.parametrize("first", [0, 2, 5])
def test_neither_the_log_nor_a_journal_has_a_gap(rows: Raw, first: int) -> None:
    with pytest.raises(psycopg.errors.IntegrityError):
        insert(rows, "segments", first=first, count=1, entries=b"\x00\x01x")
    with pytest.raises(psycopg.errors.IntegrityError):
        insert(rows, "journal", node="0badcafe", first=first, count=1, entries=b"\x00\x01x")
    with pytest.raises(psycopg.errors.IntegrityError):
        insert(rows, "journal", node="another", first=first + 1, count=1, entries=b"\x00\x01x")
    insert(rows, "segments", first=1, count=1, entries=b"\x00\x01x")
    insert(rows, "journal", node="0badcafe", first=1, count=1, entries=b"\x00\x01x")


@pytest.mark.requirement("R5")
def test_what_a_node_kept_has_one_place(rows: Raw) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        insert(rows, "segments", first=1, count=1, node="0badcafe", node_first=0)


@pytest.mark.requirement("P4")
def test_that_stale_use_was_allowed_once_is_not_forgotten(rows: Raw) -> None:
    for stale in ("allowed", "ended", "allowed"):
        rows.execute("UPDATE keys SET stale = %s", (stale,))
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="is not forgotten"):
            rows.execute("UPDATE keys SET stale = 'never'")
    assert rows.execute("SELECT stale FROM keys").fetchone() == ("allowed",)


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("gone", sorted(GONE))
def test_a_destroyed_version_stays_destroyed(rows: Raw, gone: State) -> None:
    rows.execute("UPDATE key_versions SET state = %s, sealed = NULL, destroyed_at = 2, is_primary = false", (gone.value,))
    row = rows.execute("SELECT * FROM key_versions").fetchone()
    for state in State:
        for sealed in (None, b"material"):
            if sealed is None and state in GONE:
                continue
            for date in ("NULL", "destroyed_at"):
                with pytest.raises(psycopg.errors.IntegrityError):
                    rows.execute(f"UPDATE key_versions SET state = %s, sealed = %s, destroyed_at = {date}", (state.value, sealed))
    assert rows.execute("SELECT * FROM key_versions").fetchone() == row


@pytest.mark.requirement("R31")
def test_what_was_asked_for_stays_as_asked_ends_once_and_is_signed_by_others(rows: Raw) -> None:
    asked = {
        "id": "apr", "tenant": "t", "operation": "destroy", "requester": "p", "canonical": b"c", "digest": bytes(32),
        "requested_at": 1, "expires_at": 9, "event": "e",
    }  # fmt: skip
    signed = {"approval": "apr", "authenticator": "a", "statement": "s", "proof": "p", "signed_at": 2, "event": "e"}
    insert(rows, "approvals", **asked)
    with pytest.raises(psycopg.errors.IntegrityError, match="others sign"):
        insert(rows, "approval_signatures", approver="p", **signed)
    insert(rows, "approval_signatures", approver="q", **signed)
    with pytest.raises(psycopg.errors.IntegrityError, match="as it was asked"):
        rows.execute("UPDATE approvals SET canonical = 'other'")
    rows.execute("UPDATE approvals SET ending = 'denied', ended_at = 3, ended_by = 'q', ended_event = 'f'")
    with pytest.raises(psycopg.errors.IntegrityError, match="ends once"):
        rows.execute("UPDATE approvals SET ending = 'executed'")
    with pytest.raises(psycopg.errors.IntegrityError, match="others sign"):
        insert(rows, "approval_signatures", approver="r", **signed)


def test_a_name_may_be_as_long_as_a_spiffe_id(rows: Raw) -> None:
    name = "spiffe://" + "a" * 2039
    insert(rows, "principals", tenant="t", name=name, role="application", created_at=1)
    insert(rows, "idempotency", tenant="t", principal=name, key="k" * 128, request=b"r", response=b"s", created_at=1)

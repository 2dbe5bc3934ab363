"""What the schema itself forbids about workloads' rows, over the server's own kind of connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from keyclave.store.sqlite import SqliteStore

pytestmark = pytest.mark.file_store("rows over SQLite's own connection; test_rules.py holds both engines to every rule")

ROWS: dict[str, dict[str, Any]] = {
    "tenants": {"id": "t", "name": "home", "home": 1, "created_at": 1},
    "principals": {"tenant": "t", "name": "p", "role": "application", "created_at": 1},
    "credentials": {
        "id": "c", "tenant": "t", "principal": "p", "digest": b"d", "created_at": 1, "created_by": "q", "expires_at": 9,
    },
    "authorities": {
        "id": "ca", "tenant": "t", "number": 1, "domain": "x", "spec": "ecdsa-p256", "certificate": b"c", "sealed": b"s",
        "created_at": 1, "created_by": "q", "not_after": 9,
    },
    "workloads": {"id": "w", "tenant": "t", "name": "spiffe://x/a", "scope": "{}", "created_at": 1, "created_by": "q"},
    "enrolments": {
        "id": "e", "tenant": "t", "digest": bytes(32), "name": "spiffe://x/a", "uses": 1, "used": 0, "created_at": 1,
        "created_by": "q", "expires_at": 9,
    },
    "certificates": {
        "id": "crt", "tenant": "t", "authority": "ca", "serial": "1", "thumbprint": bytes(32), "name": "n", "source": "e",
        "not_before": 1, "not_after": 9,
    },
    "blocked_certificates": {"tenant": "t", "id": "b", "blocked_at": 1, "blocked_by": "q"},
    "bindings": {"credential": "c", "thumbprint": bytes(32), "certificate": "crt"},
    "renewals": {"credential": "c", "renewed": "c", "first_at": 1},
}  # fmt: skip


def insert(conn: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" for _ in row)
    conn.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


@pytest.fixture
def rows(store: SqliteStore) -> Iterator[sqlite3.Connection]:
    for table, row in ROWS.items():
        insert(store.line.raw, table, row)
    yield store.line.raw


@pytest.mark.requirement("R5", "R33")
@pytest.mark.parametrize(
    "table", ["authorities", "workloads", "enrolments", "certificates", "blocked_certificates", "bindings", "renewals"]
)
def test_no_row_of_a_workload_is_ever_deleted(rows: sqlite3.Connection, table: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=r"history|append-only"):
        rows.execute(f"DELETE FROM {table}")


@pytest.mark.requirement("R33")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE bindings SET thumbprint = zeroblob(32)", "UPDATE renewals SET first_at = 99", "UPDATE enrolments SET used = 2",
        "UPDATE blocked_certificates SET id = 'other'", "UPDATE enrolments SET used = -1", "UPDATE enrolments SET uses = 0",
        "UPDATE certificates SET thumbprint = x'00'", "UPDATE authorities SET number = 0",
    ],
)  # fmt: skip
def test_no_row_is_changed_into_what_it_must_not_be(rows: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        rows.execute(statement)


@pytest.mark.requirement("R33")
@pytest.mark.parametrize(
    ("table", "other"),
    [
        ("workloads", {"id": "w2"}), ("enrolments", {"id": "e2"}), ("certificates", {"id": "crt2", "serial": "2"}),
        ("certificates", {"id": "crt2", "thumbprint": b"x" * 32}), ("authorities", {"id": "ca2"}), ("renewals", {"credential": "d"}),
        ("certificates", {"id": "crt2", "serial": "2", "thumbprint": b"x" * 32, "authority": "none"}),
    ],
)  # fmt: skip
def test_what_must_be_one_of_its_kind_is(rows: sqlite3.Connection, table: str, other: dict[str, Any]) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert(rows, table, ROWS[table] | other)

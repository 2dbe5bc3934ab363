"""What the schema forbids of people, tried over the server's own kind of connection: no program is above these rules."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from keyclave.store.sqlite import SqliteStore
from tests.store.test_guards import insert

pytestmark = [
    pytest.mark.requirement("R10", "R13", "R30"),
    pytest.mark.file_store("rows over SQLite's own connection; test_rules.py holds both engines to every rule"),
]

AUTHENTICATOR: dict[str, Any] = {
    "id": "aut_a", "tenant": "t", "principal": "ann", "kind": "passkey", "label": "", "public": b"cose", "handle": b"h", "aal": 3,
    "aaguid": "", "backup_eligible": 0, "sign_count": 0, "failures": 0, "enrolled_at": 1,
}  # fmt: skip
INVITATION: dict[str, Any] = {
    "id": "inv_a", "tenant": "t", "digest": b"d", "principal": "bob", "role": "auditor", "roles": "[]", "invited_by": "ann",
    "invited_at": 1, "expires_at": 9,
}  # fmt: skip
SESSION: dict[str, Any] = {
    "id": "ses_a", "tenant": "t", "principal": "ann", "digest": bytes(32), "aal": 3, "how": "passkey", "authenticator": "aut_a",
    "enrolling": 0, "invitation": "", "source": "", "created_at": 1, "expires_at": 9, "idle_seconds": 900, "seen_at": 1,
    "stepped_up_at": 1,
}  # fmt: skip
MEMBERSHIP: dict[str, Any] = {"id": "mem_a", "tenant": "t", "principal": "ann", "role": "night", "given_by": "bob", "given_at": 1}
CODE: dict[str, Any] = {"authenticator": "aut_a", "digest": bytes(32)}


@pytest.fixture
def rows(store: SqliteStore) -> Iterator[sqlite3.Connection]:
    """A database with a person and a row in every table of theirs."""
    raw = store.line.raw
    insert(raw, "tenants", id="t", name="home", home=1, created_at=1)
    insert(raw, "principals", tenant="t", name="ann", role="custodian", created_at=1)
    insert(raw, "authenticators", **AUTHENTICATOR)
    insert(raw, "recovery_codes", **CODE)
    insert(raw, "invitations", **INVITATION)
    insert(raw, "memberships", **MEMBERSHIP)
    insert(raw, "sessions", **SESSION)
    yield raw


@pytest.mark.parametrize("table", ["authenticators", "recovery_codes", "invitations", "memberships", "sessions"])
def test_the_history_of_people_is_not_deleted(rows: sqlite3.Connection, table: str) -> None:
    row = rows.execute(f"SELECT * FROM {table}").fetchone()
    for statement in (f"DELETE FROM {table}", f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"):
        with pytest.raises(sqlite3.IntegrityError, match="keeps its history"):
            rows.execute(statement)
    assert rows.execute(f"SELECT * FROM {table}").fetchone() == row


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("authenticators", {**AUTHENTICATOR, "id": "b"}),  # a passkey is somebody's, once
        ("authenticators", {**AUTHENTICATOR, "id": "b", "handle": b"i", "backup_eligible": 1}),  # synced is never level 3
        ("authenticators", {**AUTHENTICATOR, "id": "b", "handle": b"i", "public": None}),
        ("authenticators", {**AUTHENTICATOR, "id": "b", "handle": None}),
        ("authenticators", {**AUTHENTICATOR, "id": "b", "handle": b"i", "aal": 4}),
        ("authenticators", {**AUTHENTICATOR, "id": "b", "handle": b"i", "principal": "nobody"}),
        ("authenticators", {**AUTHENTICATOR, "id": "b", "handle": b"i", "kind": "smile"}),
        ("authenticators", {**AUTHENTICATOR, "id": "b", "handle": b"i", "revoked_at": 2}),
        ("authenticators", {**AUTHENTICATOR, "id": "b", "handle": None, "public": None, "kind": "totp"}),
        ("invitations", {**INVITATION, "id": "b", "digest": b"e", "principal": "ann"}),  # oneself
        ("invitations", {**INVITATION, "id": "b", "digest": b"e", "confirmed_by": "ann", "confirmed_at": 2}),  # by one alone
        ("invitations", {**INVITATION, "id": "b", "digest": b"e", "confirmed_by": "bob", "confirmed_at": 2}),  # by the invited
        ("invitations", {**INVITATION, "id": "b", "digest": b"e", "used_at": 2}),  # unconfirmed
        ("invitations", {**INVITATION, "id": "b", "digest": b"e", "role": "application"}),
        ("invitations", {**INVITATION, "id": "b"}),
        ("memberships", {**MEMBERSHIP, "id": "b"}),  # held already
        ("memberships", {**MEMBERSHIP, "id": "b", "role": "day", "given_by": "ann"}),  # by oneself
        ("sessions", {**SESSION, "id": "b"}),
        ("sessions", {**SESSION, "id": "b", "digest": b"1" * 32, "enrolling": 1}),  # which is of level 1
        ("sessions", {**SESSION, "id": "b", "digest": b"1" * 32, "expires_at": 1}),
        ("sessions", {**SESSION, "id": "b", "digest": b"1" * 31}),
        ("sessions", {**SESSION, "id": "b", "digest": b"1" * 32, "principal": "nobody"}),
        ("recovery_codes", CODE),
        ("recovery_codes", {"authenticator": "aut_a", "digest": b"short"}),
        ("principals", {"tenant": "t", "name": "x", "role": "auditor", "created_at": 1, "kind": "ghost"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_row_that_breaks_a_rule_of_people_is_not_taken(rows: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    count = rows.execute(f"SELECT count(*) FROM {table}").fetchone()
    with pytest.raises(sqlite3.IntegrityError):
        insert(rows, table, **row)
    assert rows.execute(f"SELECT count(*) FROM {table}").fetchone() == count

"""What the schema itself forbids, tried over the server's own kind of connection: no program is above these rules."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from keyclave.core.errors import Broken, Unavailable
from keyclave.keys.states import GONE, State
from keyclave.store import schema
from keyclave.store.embedded import file
from keyclave.store.sqlite import SqliteStore
from tests.store.units import Note, new_store

pytestmark = pytest.mark.file_store(
    "triggers in SQLite's language and the file's own rights; test_rules.py holds both engines to every rule"
)


@pytest.fixture
def rows(store: SqliteStore) -> Iterator[sqlite3.Connection]:
    """A database with a row in every table."""
    store.enqueue(Note("event"))
    store.flush()
    store.waiting_tiles[0, 0] = bytes(8192)
    store.keep_checkpoint(1, bytes(32), "note", 1)
    raw = store.line.raw
    insert(raw, "tenants", id="t", name="home", home=1, created_at=1)
    insert(raw, "tenant_keys", tenant="t", duty="operational", sealed=b"s", created_at=1)
    insert(raw, "keys", **KEY)
    insert(raw, "key_versions", **VERSION)
    insert(raw, "principals", tenant="t", name="p", role="auditor", created_at=1)
    insert(raw, "credentials", **CREDENTIAL)
    insert(raw, "idempotency", tenant="t", principal="p", key="k", request=b"r", response=b"s", created_at=1)
    yield raw


KEY: dict[str, Any] = {
    "id": "key_a", "tenant": "t", "name": "n", "spec": "aes-256", "purpose": "encrypt", "owner": "o", "environment": "e",
    "classification": "ePHI", "location": "software", "tags": "{}", "cryptoperiod": "{}", "created_at": 1, "created_by": "p",
    "rev": 1,
}  # fmt: skip
CREDENTIAL: dict[str, Any] = {
    "id": "c", "tenant": "t", "principal": "p", "digest": b"d", "created_at": 1, "created_by": "q", "expires_at": 9,
}  # fmt: skip
VERSION: dict[str, Any] = {
    "key_id": "key_a", "number": 1, "is_primary": 1, "state": "active", "origin": "generated", "kcv": "abc", "created_at": 1,
    "activated_at": 1, "sealed": b"material",
}  # fmt: skip


def insert(conn: sqlite3.Connection, table: str, **row: Any) -> None:
    marks = ", ".join("?" for _ in row)
    conn.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


@pytest.mark.requirement("R5", "R40")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE segments SET entries = x'00'",
        "UPDATE segments SET first = 7",
        "UPDATE segments SET count = 2",
        "DELETE FROM segments",
        "INSERT OR REPLACE INTO segments (first, count, entries) VALUES (0, 1, x'00')",
        "UPDATE log_tiles SET hashes = zeroblob(8192)",
        "DELETE FROM log_tiles",
        "INSERT OR REPLACE INTO log_tiles (level, number, hashes) VALUES (0, 0, zeroblob(8192))",
        "UPDATE checkpoints SET note = 'forged'",
        "DELETE FROM checkpoints",
        "INSERT OR REPLACE INTO checkpoints (size, root, note, created_at) VALUES (1, x'00', 'forged', 1)",
    ],
)
def test_the_record_is_append_only(rows: sqlite3.Connection, statement: str) -> None:
    before = list(rows.execute("SELECT * FROM segments")), list(rows.execute("SELECT * FROM log_tiles, checkpoints"))
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|leave no gap"):
        rows.execute(statement)
    assert (list(rows.execute("SELECT * FROM segments")), list(rows.execute("SELECT * FROM log_tiles, checkpoints"))) == before


@pytest.mark.requirement("R5", "R40")
@pytest.mark.parametrize("first", [0, 2, 5])
def test_a_segment_that_leaves_a_gap_or_overlaps_is_not_taken(rows: sqlite3.Connection, first: int) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert(rows, "segments", first=first, count=1, entries=b"\x00\x01x")
    insert(rows, "segments", first=1, count=1, entries=b"\x00\x01x")


@pytest.mark.requirement("R13", "R23")
@pytest.mark.parametrize("table", ["keys", "key_versions", "credentials", "principals", "tenants"])
@pytest.mark.parametrize("how", ["DELETE FROM {}", "REPLACE"])
def test_history_is_not_deleted(rows: sqlite3.Connection, table: str, how: str) -> None:
    row = rows.execute(f"SELECT * FROM {table}").fetchone()
    marks = ", ".join("?" for _ in row)
    with pytest.raises(sqlite3.IntegrityError, match="keeps its history"):
        if how == "REPLACE":
            rows.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)
        else:
            rows.execute(how.format(table))
    assert rows.execute(f"SELECT * FROM {table}").fetchone() == row


# ---- a destroyed version --------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R23")
@pytest.mark.parametrize("gone", sorted(GONE))
def test_a_destroyed_version_stays_destroyed(rows: sqlite3.Connection, gone: State) -> None:
    rows.execute("UPDATE key_versions SET state = ?, sealed = NULL, destroyed_at = 2, is_primary = 0", (gone.value,))
    row = rows.execute("SELECT * FROM key_versions").fetchone()
    for state in State:
        for sealed in (None, b"material"):
            if sealed is None and state in GONE:
                continue  # destroyed may become destroyed-compromised (T15)
            with pytest.raises(sqlite3.IntegrityError):
                rows.execute("UPDATE key_versions SET state = ?, sealed = ?, destroyed_at = NULL", (state.value, sealed))
            with pytest.raises(sqlite3.IntegrityError):
                rows.execute("UPDATE key_versions SET state = ?, sealed = ?", (state.value, sealed))
    with pytest.raises(sqlite3.IntegrityError):
        rows.execute("UPDATE key_versions SET destroyed_at = NULL")
    assert rows.execute("SELECT * FROM key_versions").fetchone() == row


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("state", sorted(State))
def test_only_a_destroyed_version_has_no_material_and_it_has_a_date(rows: sqlite3.Connection, state: State) -> None:
    gone = state in GONE
    for sealed, date in ((b"m", None), (None, 2), (b"m", 2), (None, None)):
        fits = (sealed is None, date is not None) == (gone, gone)
        row = {**VERSION, "number": 2, "is_primary": 0, "state": state.value, "sealed": sealed, "destroyed_at": date}
        if fits:
            insert(rows, "key_versions", **row)
        else:
            with pytest.raises(sqlite3.IntegrityError):
                insert(rows, "key_versions", **row)


@pytest.mark.requirement("R24")
def test_a_key_has_one_primary_version(rows: sqlite3.Connection) -> None:
    insert(rows, "key_versions", **{**VERSION, "number": 2, "is_primary": 0})
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        insert(rows, "key_versions", **{**VERSION, "number": 3})
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        rows.execute("UPDATE key_versions SET is_primary = 1")
    rows.execute("UPDATE key_versions SET is_primary = 0")
    rows.execute("UPDATE key_versions SET is_primary = 1 WHERE number = 2")


@pytest.mark.requirement("R10", "R13")
@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("key_versions", {**VERSION, "number": 2, "is_primary": 0, "state": "half-destroyed"}),
        ("key_versions", {**VERSION, "number": 2, "is_primary": 0, "origin": "found"}),
        ("key_versions", {**VERSION, "number": 0, "is_primary": 0}),
        ("key_versions", {**VERSION, "number": 2, "is_primary": 0, "destroy_at": 5}),
        ("key_versions", {**VERSION, "number": 2, "is_primary": 0, "activated_at": None}),
        ("key_versions", {**VERSION, "key_id": "key_of_nobody"}),
        ("keys", {**KEY, "id": "key_b"}),
        ("keys", {**KEY, "id": "key_b", "name": "b", "rev": 0}),
        ("keys", {**KEY, "id": "key_b", "name": "b", "stale": "perhaps"}),
        ("keys", {**KEY, "id": "key_b", "name": "b", "tenant": "nobody"}),
        ("keys", {**KEY, "id": "key_b", "name": "b", "owner": None}),
        ("principals", {"tenant": "t", "name": "p", "role": "custodian", "created_at": 1}),
        ("principals", {"tenant": "t", "name": "q", "role": "root", "created_at": 1}),
        ("principals", {"tenant": "t", "name": "q", "role": "auditor", "created_at": 1, "kind": "robot"}),
        ("tenant_keys", {"tenant": "t", "duty": "escrow", "sealed": b"s", "created_at": 1}),
        ("tenant_keys", {"tenant": "t", "duty": "operational", "sealed": b"t", "created_at": 1}),
        ("credentials", {**CREDENTIAL, "id": "d"}),
        ("idempotency", {"tenant": "t", "principal": "p", "key": "k", "request": b"q", "response": b"s", "created_at": 1}),
        ("segments", {"first": 1, "count": 0, "entries": b""}),
        ("segments", {"first": 1, "count": 1}),
        ("segments", {"first": 1, "count": 1, "entries": b"", "node": "x"}),
        ("log_tiles", {"level": 0, "number": 1, "hashes": bytes(8191)}),
        ("tenants", {"id": "u", "name": "home", "home": 0, "created_at": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in list(value.items())[:3]),
)  # fmt: skip
def test_a_row_that_breaks_a_rule_is_not_taken(rows: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    count = rows.execute(f"SELECT count(*) FROM {table}").fetchone()
    with pytest.raises(sqlite3.IntegrityError):
        insert(rows, table, **row)
    assert rows.execute(f"SELECT count(*) FROM {table}").fetchone() == count


@pytest.mark.requirement("P4")
def test_that_stale_use_was_allowed_once_is_not_forgotten(rows: sqlite3.Connection) -> None:
    assert rows.execute("SELECT stale FROM keys").fetchone() == ("never",)
    for stale in ("allowed", "ended", "allowed", "ended"):
        rows.execute("UPDATE keys SET stale = ?", (stale,))
        with pytest.raises(sqlite3.IntegrityError, match="is not forgotten"):
            rows.execute("UPDATE keys SET stale = 'never'")
    assert rows.execute("SELECT stale FROM keys").fetchone() == ("ended",)


# ---- the file and its schema ----------------------------------------------------------------------------------------------
def test_the_migrated_schema_is_the_one_in_the_code(store: SqliteStore) -> None:
    with store.readers.reading() as conn:
        found = compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), schema.metadata)
    assert found == []


def test_the_migrated_guards_are_the_ones_in_the_code(store: SqliteStore) -> None:
    """Alembic compares no triggers and no CHECK constraints, so they are compared here."""
    found = [row[0] for row in store.line.raw.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")]
    assert sorted(found) == sorted(schema.sqlite_guards())
    for table in schema.metadata.sorted_tables:
        (sql,) = store.line.raw.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table.name,)
        ).fetchone()
        stated = {str(c.name) for c in table.constraints if c.name and "CHECK" in type(c).__name__.upper()}
        assert stated == {name for name in stated if name in sql}


def test_the_file_is_for_its_owner_alone(store: SqliteStore, tmp_path: Path) -> None:
    store.enqueue(Note("event"))
    store.flush()
    for path in tmp_path.glob("keyclave.db*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_database_that_exists_is_never_made_again(store: SqliteStore, tmp_path: Path) -> None:
    before = (tmp_path / "keyclave.db").read_bytes()
    with pytest.raises(Unavailable, match="exists"):
        file.create(tmp_path / "keyclave.db", "00000000")
    assert (tmp_path / "keyclave.db").read_bytes() == before


def test_what_is_not_a_database_of_keyclave_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no database"):
        SqliteStore(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()
    file.create(tmp_path / "nameless.db", "00000000")
    with sqlite3.connect(tmp_path / "nameless.db") as conn:
        conn.execute("DELETE FROM meta")
    with pytest.raises(Broken, match="not one of Keyclave"):
        SqliteStore(tmp_path / "nameless.db")
    (tmp_path / "foreign.db").write_bytes(b"not a database at all, but a text\n" * 100)
    with pytest.raises((Broken, Unavailable)):
        SqliteStore(tmp_path / "foreign.db")


def test_readers_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(Unavailable):
        store.read(lambda conn: conn.exec_driver_sql("INSERT INTO meta (name, value) VALUES ('x', x'00')"))
    assert new_store(store.path.parent).next_event == 0

"""Migrating a file that holds keys: nothing of them is lost, whoever is killed at whatever statement leaves the old or the new."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from keyclave.core.errors import Broken, Unavailable
from keyclave.store import migrations, schema, versions
from keyclave.store.embedded import file
from keyclave.store.sqlite import SqliteStore

BEFORE = "0012"
COLUMNS = [column.name for column in schema.key_versions.c]
STRIDE = 23  # of the statements that make a schema from nothing

pytestmark = [
    pytest.mark.requirement("R5"),
    pytest.mark.file_store("statements of SQLite; PostgreSQL takes back what makes tables as it does everything else"),
]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of the schema before, with a tenant, its keys, and versions in every condition that the schema knows."""
    path = tmp_path_factory.mktemp("old") / "keyclave.db"
    path.touch(mode=0o600)
    _migrate(path, BEFORE)
    with closing(file.connect(path)) as conn:
        conn.execute("INSERT INTO meta VALUES ('node', X'3061626364656667')")
        conn.execute("INSERT INTO tenants VALUES ('t', 'clinic', 1, 1)")
        for key in ("key_c", "key_a", "key_b"):  # not in the order of their ids
            said = (key, f"name of {key}")
            conn.execute(
                "INSERT INTO keys VALUES (?, 't', ?, 'aes-256', 'encrypt', 'o', 'e', 'c', 'software', '{}', '{}', NULL, 1, 'm', 1, "
                "'never')",
                said,
            )
            for number, state, sealed, destroyed in (
                (1, "destroyed", None, 9),
                (2, "deactivated", b"\x00sealed", None),
                (3, "active", os.urandom(60), None),
            ):
                row = dict.fromkeys(COLUMNS) | {"key_id": key, "number": number, "is_primary": number == 3, "state": state}
                row |= {"origin": "generated", "kcv": "c0ffee", "created_at": 2, "activated_at": 3, "destroyed_at": destroyed}
                row |= {"sealed": sealed, "used": number * 7}
                marks = ", ".join("?" * len(COLUMNS))
                conn.execute(f"INSERT INTO key_versions VALUES ({marks})", [row[name] for name in COLUMNS])
    yield path


@pytest.fixture
def path(old: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(old, tmp_path / "keyclave.db"))


def _migrate(path: Path, target: str, *, down: bool = False) -> None:
    engine = create_engine("sqlite://", creator=lambda: file.connect(path), poolclass=NullPool)
    with engine.connect() as conn:
        if down:
            settings = migrations.config()
            settings.attributes["connection"] = conn
            command.downgrade(settings, target)
        else:
            migrations.run(conn, target)
        conn.commit()
    engine.dispose()


def _rows(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        return conn.execute(f"SELECT {', '.join(COLUMNS)} FROM key_versions ORDER BY key_id, number").fetchall()


def _schema(path: Path) -> dict[str, str]:
    """Return what everything of the table is defined by, quotes and blanks aside."""
    with closing(sqlite3.connect(path)) as conn:
        found = conn.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name = 'key_versions'")
        return {name: " ".join(sql.replace('"', "").split()) for name, sql in found}


def _revision(path: Path) -> str | None:
    with closing(sqlite3.connect(path)) as conn:
        if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        return str(conn.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _killed_at(path: Path, statement: int) -> bool:
    """Migrate in a child that is killed before its `statement`-th one; tell whether it came so far."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(_statement: str) -> None:
            nonlocal seen
            seen += 1
            if seen == statement:
                os.kill(os.getpid(), signal.SIGKILL)

        def connect() -> sqlite3.Connection:
            conn = file.connect(path)
            conn.set_trace_callback(count)
            return conn

        try:
            migrations.upgrade(connect)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


# ---- what is kept ---------------------------------------------------------------------------------------------------------
def test_versions_lie_in_the_order_of_their_keys_and_nothing_else_is_different(path: Path) -> None:
    rows, defined = _rows(path), _schema(path)
    assert len(rows) == 9
    file.migrate(path)
    assert _revision(path) == versions.revision()
    assert _rows(path) == rows
    now = _schema(path)
    assert "UPDATE OF key_id, number, origin" in now.pop("key_versions_stay_as_made")
    assert now.pop("key_versions") == defined.pop("key_versions") + " WITHOUT ROWID"
    assert now == defined
    assert {"one_primary_version", "key_versions_no_delete", "key_versions_stay_gone"} <= now.keys()
    with closing(file.connect(path)) as conn, pytest.raises(sqlite3.IntegrityError, match="stays destroyed"):
        conn.execute("UPDATE key_versions SET state = 'active' WHERE number = 1")


def test_there_is_a_way_back(path: Path) -> None:
    rows, defined = _rows(path), _schema(path)
    file.migrate(path)
    _migrate(path, BEFORE, down=True)
    assert (_rows(path), _schema(path), _revision(path)) == (rows, defined, BEFORE)


def test_on_the_way_back_who_made_a_key_becomes_an_act(path: Path) -> None:
    """Programs before know it from nowhere else."""
    file.migrate(path)
    with closing(file.connect(path)) as conn:
        conn.execute(
            "INSERT INTO keys SELECT 'key_new', tenant, 'new', spec, purpose, owner, environment, classification, location, tags, "
            "cryptoperiod, rotation, 5, 'ann', rev, stale, 'n-7' FROM keys WHERE id = 'key_a'"
        )
        conn.execute(
            "INSERT INTO key_versions (key_id, number, is_primary, state, origin, kcv, created_at, activated_at, sealed) "
            "VALUES ('key_new', 1, 1, 'active', 'imported', 'c0ffee', 5, 5, x'00')"
        )
    _migrate(path, "0013", down=True)
    with closing(sqlite3.connect(path)) as conn:
        acts = conn.execute("SELECT tenant, kind, subject, action, principal, at, event FROM acts ORDER BY number").fetchall()
    said = ("key-import", "ann", 5, "n-7")
    assert acts == [("t", "key", "key_new", *said), ("t", "key-version", "key_new:1", *said)]


def test_a_file_of_a_schema_before_is_not_served_and_left_as_it_is(path: Path) -> None:
    with pytest.raises(Broken, match="too old for this program") as refused:
        SqliteStore(path)
    assert refused.value.hint.startswith("run `keyclave migrate`")
    assert _revision(path) == BEFORE


def test_one_that_differs_so_little_that_both_are_served_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "COMPATIBLE", {versions.revision(): BEFORE})
    with closing(SqliteStore(path)) as store:
        assert store.next_event == 0
    assert _revision(path) == BEFORE


# ---- killed, or out of room -----------------------------------------------------------------------------------------------
def test_killed_at_any_statement_it_is_the_old_or_the_new_and_migrates_again(path: Path, tmp_path: Path) -> None:
    rows, defined = _rows(path), _schema(path)
    deaths = 0
    while _killed_at(one := Path(shutil.copy(path, tmp_path / f"{deaths}.db")), deaths + 1):
        deaths += 1
        assert _rows(one) == rows
        assert _revision(one) == BEFORE
        assert _schema(one) == defined
        file.migrate(one)
        assert _revision(one) == versions.revision()
        assert _rows(one) == rows
    assert deaths > 15
    assert _rows(one) == rows


def test_killed_while_a_schema_is_made_there_is_none(tmp_path: Path) -> None:
    deaths = 0
    statement = 1
    while _killed_at(one := tmp_path / f"{statement}.db", statement):
        deaths += 1
        assert _revision(one) is None
        migrations.upgrade(lambda one=one: file.connect(one))
        assert _revision(one) == versions.revision()
        statement += STRIDE
    assert deaths > 5


def test_out_of_room_nothing_is_different_and_it_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, defined = _rows(path), _schema(path)

    roomy = file.connect

    def cramped(one: Path) -> sqlite3.Connection:
        conn = roomy(one)
        (pages,) = conn.execute("PRAGMA page_count").fetchone()
        conn.execute(f"PRAGMA max_page_count = {pages}")
        return conn

    monkeypatch.setattr(file, "connect", cramped)
    with pytest.raises(Unavailable, match="the disk is full"):
        file.migrate(path)
    assert (_rows(path), _schema(path), _revision(path)) == (rows, defined, BEFORE)

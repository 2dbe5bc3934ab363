"""A whole store moves to another engine and back: nothing is lost, and at no moment do two stores serve, or a half one."""

from __future__ import annotations

import base64
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from keyclave.app import move as program
from keyclave.app.config import StoreSection, load
from keyclave.app.move import move
from keyclave.core.errors import Broken, KeyclaveError, Malformed, Unavailable
from keyclave.store import moving
from keyclave.store import nodes as rows
from tests.postgres import Database
from tests.store.inside import ceremony, open_inside

pytestmark = pytest.mark.requirement("R6")

PLAIN = base64.b64encode(b"a patient's name").decode()


@dataclass
class Home:
    """A home that nobody serves, and what was done in it."""

    folder: Path
    shares: list[str]
    tokens: dict[str, str]
    sealed: dict[str, str]  # ciphertext by key
    events: list[str]

    def move(self, to: StoreSection | Path, shares: list[str] | None = None) -> list[str]:
        """Move it, and return what was said."""
        said: list[str] = []
        move(self.folder, load(self.folder), to, self.shares if shares is None else shares, said.append)
        return said

    def check(self) -> None:
        """Open it as a server would: the keys open what they sealed, and the record is whole and goes on."""
        with open_inside(self.folder, self.shares, self.tokens) as inside:
            for key, ciphertext in self.sealed.items():
                assert inside.get("decrypt", "application", key, {"ciphertext": ciphertext})["plaintext"] == PLAIN
            # what a person does is kept as an act, under the number that follows those which moved
            inside.get("key-create", "custodian", "", {"name": f"after-{inside.desk.module.random(4).hex()}", "owner": "o"})
            inside.desk.log.refresh()
            log = [bytes(entry).decode() for entry in inside.store.read_entries(0, 100_000)]
            assert log[: len(self.events)] == self.events
            self.events = log


@pytest.fixture
def home(first_home: Home, tmp_path: Path) -> Home:
    """A copy of the home, to be moved."""
    shutil.copytree(first_home.folder, tmp_path / "home")
    return replace(first_home, folder=tmp_path / "home")


@pytest.fixture(scope="module")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with keys in several states, an approval that was signed and executed, and a log of more than a full tile."""
    folder, shares, tokens = ceremony(tmp_path_factory.mktemp("first"))
    sealed: dict[str, str] = {}
    with open_inside(folder, shares, tokens) as inside:
        tokens["application"] = inside.application(["encrypt", "decrypt"], ["*"])
        for number in range(4):
            made = inside.get("key-create", "custodian", "", {"name": f"key{number}", "owner": "o"})
            for _ in range(80):
                answer = inside.get("encrypt", "application", made["id"], {"plaintext": PLAIN})
            sealed[made["id"]] = answer["ciphertext"]
        inside.get("key-create", "custodian", "", {"name": "doomed", "owner": "o"})
        inside.get("deactivate", "operator", "doomed", {"version": 1})
        inside.get("schedule-destruction", "custodian", "doomed", {"version": 1, "reason": "over"})
        body = {"principal": "ann", "role": "operator", "ttl_seconds": 3600}
        approval = inside.approved("credential-issue", "custodian", "", body)
        inside.get("credential-issue", "custodian", "", body, approval=approval)
        events = [bytes(entry).decode() for entry in inside.store.read_entries(0, 100_000)]
    return Home(folder, shares, tokens, sealed, events)


def test_every_table_whose_rows_the_engine_numbers_counts_on_after_a_move(database: Database) -> None:
    with database.connect() as conn:
        found = conn.execute(
            "SELECT table_name FROM information_schema.columns WHERE column_default LIKE 'nextval(%' AND column_name = 'number'"
        )
        assert sorted(row[0] for row in found) == sorted(moving._COUNTED)


def to(database: Database) -> StoreSection:
    return StoreSection(url=database.url())


def test_it_moves_to_postgresql_and_back_and_every_key_opens_what_it_sealed(home: Home, database: Database) -> None:
    said = home.move(to(database))
    assert any("check values" in line for line in said)
    assert load(home.folder).store.url == database.url()
    home.check()
    with database.connect() as conn:
        row = conn.execute("SELECT count(*) FROM approval_signatures").fetchone()
        assert row is not None and row[0] > 0
    home.move(home.folder / "again.db")
    assert (load(home.folder).store.url, load(home.folder).database) == ("", "again.db")
    home.check()


def test_the_old_store_refuses_to_serve_and_says_why(home: Home, database: Database) -> None:
    before = (home.folder / "keyclave.toml").read_text()
    home.move(to(database))
    (home.folder / "keyclave.toml").write_text(before)
    with pytest.raises(Broken, match="was moved away"):
        home.check()


@pytest.mark.parametrize("act", ["copy", "compare", "place_rest", "hash_log", "open_keys"])
def test_a_move_that_is_cut_short_while_it_copies_leaves_the_target_empty_and_the_source_serving(
    home: Home, database: Database, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = program if hasattr(program, act) else moving
    real: Callable[..., Any] = getattr(where, act)

    def dies(*arguments: Any, **named: Any) -> Any:
        real(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(where, act, dies)
        home.move(to(database))
    home.check()
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM keys").fetchone() == (0,)
    home.move(to(database))
    home.check()


def test_a_move_that_dies_before_the_source_is_marked_leaves_a_target_that_refuses(
    home: Home, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(program, "_mark", dies)
        home.move(to(database))
    home.check()
    with pytest.raises(Malformed, match="cut short"):
        home.move(to(database))
    name_it(home, database)
    with pytest.raises(Broken, match="not finished"):
        home.check()


def test_a_move_that_dies_after_the_source_was_marked_is_finished_by_the_same_command(
    home: Home, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(program, "_finish", dies)
        home.move(to(database))
    with pytest.raises(Broken, match="was moved away"):
        home.check()
    home.move(to(database))
    home.check()


def name_it(home: Home, database: Database) -> None:
    path = home.folder / "keyclave.toml"
    path.write_text(path.read_text() + f'\n[store]\nurl = "{database.url()}"\n')


def test_a_store_that_is_written_meanwhile_is_not_moved(home: Home, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    extents = [(1, 0), (2, 0)]
    monkeypatch.setattr(moving, "extent", lambda conn: extents.pop(0))
    with pytest.raises(Unavailable, match="written while"):
        home.move(to(database))
    home.check()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE key_versions SET kcv = 'ffffff' WHERE number = 1", "another check value"),
        ("UPDATE key_versions SET sealed = x'00' WHERE number = 1", "does not open"),
        ("UPDATE checkpoints SET root = zeroblob(32)", "not the one that was signed"),
        ("DELETE FROM segments WHERE first = (SELECT max(first) FROM segments)", "its tail is gone"),
        ("UPDATE log_tiles SET hashes = zeroblob(8192)", "not that of the log"),
    ],
)  # fmt: skip
def test_a_store_that_is_not_whole_is_not_moved(home: Home, database: Database, statement: str, said: str) -> None:
    with sqlite3.connect(home.folder / "keyclave.db") as conn:
        for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            conn.execute(f"DROP TRIGGER {name}")
        assert conn.execute(statement).rowcount > 0
    conn.close()
    with pytest.raises(KeyclaveError, match=said):
        home.move(to(database))
    with database.connect() as raw:
        assert raw.execute("SELECT count(*) FROM keys").fetchone() == (0,)


def test_too_few_shares_or_wrong_ones_move_nothing(home: Home, database: Database, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _, others, _ = ceremony(tmp_path / "other", another=True)
    with pytest.raises(KeyclaveError):
        home.move(to(database), others)
    home.check()


def test_a_home_that_is_served_is_not_moved(home: Home, database: Database) -> None:
    with program.alone(home.folder), pytest.raises(Unavailable, match="serves"):
        home.move(to(database))


def test_a_database_that_nodes_serve_is_not_moved(home: Home, database: Database) -> None:
    home.move(to(database))
    with database.connect() as conn:
        conn.execute(
            "INSERT INTO nodes VALUES ('n1', 'a', 'v', 's', 1, 1, 0, extract(epoch FROM now())::bigint * 1000000 + 60000000, 0, "
            "false, false, NULL)"
        )
    with pytest.raises(Unavailable, match="n1"):
        home.move(home.folder / "again.db")


def test_a_file_that_exists_and_a_database_in_use_are_no_targets(home: Home, database: Database) -> None:
    home.move(to(database))
    with pytest.raises(Malformed):
        home.move(home.folder / "keyclave.db")
    home.check()


# ---- the unlucky operator -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fails", ["the name", "a fault"])
def test_a_move_that_dies_before_the_configuration_names_the_new_store_is_finished_by_the_same_command(
    home: Home, database: Database, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt if fails == "the name" else PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched, pytest.raises((KeyboardInterrupt, Unavailable)) as ended:
        patched.setattr(program, "name_store", dies)
        home.move(to(database))
    assert fails == "the name" or "the same command" in str(ended.value.hint)  # type: ignore[attr-defined]
    with pytest.raises(Broken, match="was moved away"):
        home.check()
    home.move(to(database))
    home.check()


def test_whatever_else_is_named_as_the_new_file_is_refused_and_left_as_it_is(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "targets"
    folder.mkdir()
    (folder / "empty").touch(0o600)
    (folder / "other").write_text("something else")
    (folder / "dangling").symlink_to(folder / "made-by-the-link")
    (folder / "link").symlink_to(folder / "other")
    with sqlite3.connect(folder / "foreign") as conn:
        conn.execute("CREATE TABLE meta (name, value)")
    conn.close()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for target in (
        *sorted(folder.iterdir()),
        folder,
        folder / "no folder" / "x.db",
        Path("/dev/null"),
        home.folder / "keyclave.toml",
    ):
        with pytest.raises(KeyclaveError) as refused:
            home.move(target)
        assert refused.value.hint, target
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert not (folder / "made-by-the-link").exists()
    home.check()


def test_the_new_file_is_its_owners_alone(home: Home) -> None:
    home.move(home.folder / "second.db")
    home.check()
    assert {path.name: path.stat().st_mode & 0o077 for path in home.folder.glob("second.db*")}.keys() >= {"second.db"}
    assert not any(path.stat().st_mode & 0o077 for path in home.folder.glob("second.db*"))


def test_a_target_that_fails_while_it_is_filled_is_told_without_its_rows(
    home: Home, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(source: Connection, target: Connection) -> dict[str, int]:
        target.exec_driver_sql("INSERT INTO meta VALUES ('secret', 'x'), ('secret', 'y')")
        return {}

    with monkeypatch.context() as patched, pytest.raises(Unavailable) as refused:
        patched.setattr(moving, "copy", copy)
        home.move(to(database))
    assert "the same command" in str(refused.value.hint)
    assert "secret" not in refused.value.detail
    home.check()


def test_only_the_user_who_serves_moves_the_home(home: Home, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: home.folder.stat().st_uid + 1)
    with pytest.raises(Malformed, match="belongs to"):
        home.move(to(database))


# ---- a node that nobody saw -----------------------------------------------------------------------------------------------
def test_a_frozen_node_that_wakes_after_the_move_never_gets_a_lease_on_the_old_store(home: Home, database: Database) -> None:
    home.move(to(database))
    frozen = rows.Node("frozen", "a", "v", "s", 0, 0, 0, 0, 0, sealed=False, draining=False)
    engine = create_engine("postgresql+psycopg://", creator=lambda: database.connect("keyclave_app"), poolclass=NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        rows.renew(conn, frozen, 1)
        home.move(home.folder / "again.db")
        for node in (frozen, msgspec.structs.replace(frozen, id="new")):
            with pytest.raises(Broken, match="was moved away"):
                rows.renew(conn, node, 60_000_000)
        assert moving.serving(conn) == []
    engine.dispose()


def test_a_node_that_wakes_in_the_middle_of_the_move_keeps_its_store(
    home: Home, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.move(to(database))
    real = moving.copy

    def copy(source: Connection, target: Connection) -> dict[str, int]:
        with database.connect("keyclave_app") as conn:  # after the first look, by the database's clock, not ours
            now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
            conn.execute(f"INSERT INTO nodes VALUES ('woken', 'a', 'v', 's', 1, 1, 0, {now} + 60000000, 0, false, false, NULL)")
        return real(source, target)

    with monkeypatch.context() as patched, pytest.raises(Unavailable, match="woken"):
        patched.setattr(moving, "copy", copy)
        home.move(home.folder / "again.db")
    home.check()  # the source was given back

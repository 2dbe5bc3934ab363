"""Group commit: one sync for many, in order, numbered without gaps, and nobody is told before it is durable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keyclave.core.errors import Broken
from keyclave.store.sqlite import SqliteStore
from tests.store.units import Note, kept, new_store, no_gaps, segments, wired

pytestmark = pytest.mark.file_store(
    "SQLite's groups, statement by statement; test_units.py holds both engines to what a group is"
)


@pytest.mark.requirement("P1", "R5")
def test_nobody_is_told_before_the_commit_returned(store: SqliteStore) -> None:
    wire = wired(store)
    for name in ("a", "b", "c"):
        store.enqueue(Note(name, diary=wire.diary))
    assert not any(line.startswith("done") for line in wire.diary)
    store.flush()
    assert wire.diary == ["BEGIN IMMEDIATE", "INSERT INTO", "COMMIT", "done a", "done b", "done c"]


@pytest.mark.requirement("P1")
def test_every_connection_syncs_fully_but_the_one_that_is_synced_by_us(store: SqliteStore) -> None:
    """FULL syncs the write-ahead log at each commit: with NORMAL the power cut is survived by what test_syncs.py is about."""
    readers = [r.connection.driver_connection for r in store.readers.all]
    assert readers
    for conn, synchronous in ((store.line.raw, 1), *((conn, 2) for conn in readers)):
        assert conn is not None
        settings = {
            name: conn.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "journal_mode", "foreign_keys", "secure_delete")
        }
        assert settings == {"synchronous": synchronous, "journal_mode": "wal", "foreign_keys": 1, "secure_delete": 1}


def test_one_whose_answer_fails_does_not_keep_the_others_from_theirs(store: SqliteStore) -> None:
    class Gone(Note):
        def done(self, failure: Exception | None) -> None:
            raise ConnectionResetError("the client is gone")

    followed: list[tuple[int, list[bytes]]] = []
    store.followed_by(lambda first, entries: followed.append((first, entries)), 0)
    last = Note("last")
    for unit in (Note("first"), Gone("gone"), last):
        store.enqueue(unit)
    store.flush()
    assert last.told == [None]
    assert [first for first, _ in followed] == [0]
    assert len(followed[0][1]) == 3


def test_the_log_has_a_group_before_its_callers_ask_for_receipts(store: SqliteStore) -> None:
    diary: list[str] = []
    store.followed_by(lambda first, entries: diary.append(f"follow {first} {len(entries)}"), 0)
    for i in range(4):
        store.enqueue(Note(f"u{i}", diary=diary))
        store.flush()
    assert diary == [line for i in range(4) for line in (f"follow {i} 1", f"done u{i}")]


@pytest.mark.requirement("P1")
def test_what_is_durable_is_answered_and_followed_even_if_the_log_stumbled(store: SqliteStore) -> None:
    """The rows are the truth: the tree is built from them, again if need be."""
    stumbles = [Broken("the log is elsewhere")]
    seen: list[bytes] = []

    def follow(first: int, entries: list[bytes]) -> None:
        if stumbles:
            raise stumbles.pop()
        assert first == len(seen)
        seen.extend(entries)

    store.followed_by(follow, 0)
    units = [Note("one"), Note("two")]
    for unit in units:
        store.enqueue(unit)
        store.flush()
    assert [unit.told for unit in units] == [[None], [None]]
    assert [bytes(e).decode() for e in seen] == kept(store) == ["0 one ok", "1 two ok"]


# ---- when a group is committed --------------------------------------------------------------------------------------------
class Loop:
    """An event loop whose turns the test takes."""

    def __init__(self) -> None:
        self.ready: list[Callable[[], None]] = []

    def later(self, fn: Callable[[], None]) -> None:
        self.ready.append(fn)

    def turn(self) -> None:
        now, self.ready = self.ready, []
        for fn in now:
            fn()


def test_a_lone_unit_waits_for_one_quiet_turn_and_a_crowd_for_its_end(tmp_path: Path) -> None:
    loop = Loop()
    store = new_store(tmp_path, later=loop.later)
    lone = Note("lone")
    store.enqueue(lone)
    loop.turn()
    loop.turn()
    assert lone.told == [None]
    crowd = [Note(f"c{i}") for i in range(3)]
    for unit in crowd:
        store.enqueue(unit)
        loop.turn()
    loop.turn()
    assert [unit.told for unit in crowd] == [[None]] * 3
    assert segments(store) == [(0, 1), (1, 3)]
    store.close()


def test_a_turn_after_somebody_flushed_does_nothing(tmp_path: Path) -> None:
    loop = Loop()
    store = new_store(tmp_path, later=loop.later)
    store.enqueue(Note("a"))
    store.flush()
    loop.turn()
    assert segments(store) == [(0, 1)]
    store.close()


# ---- reading back ---------------------------------------------------------------------------------------------------------
def test_a_store_that_is_opened_again_goes_on_where_it_ended(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for i in range(3):
        store.enqueue(Note(f"u{i}", events=2))
    store.flush()
    store.close()
    again = new_store(tmp_path)
    assert (again.next_event, again.node) == (6, "0badcafe")
    assert again.enqueue(Note("later")) == 6
    again.close()
    third = new_store(tmp_path)
    assert kept(third)[-1] == "6 later ok"
    assert no_gaps(third)
    third.close()

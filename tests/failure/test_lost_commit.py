"""Commits that fail: those that did nothing, and those that did everything and could not say so.

Each statement of a group fails once. Whatever happened, nobody is told success, the numbering goes on without a gap, and the log
follows every durable event exactly once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyclave.audit.proofs import tree_root
from keyclave.core.clock import SystemClock
from keyclave.core.errors import Unavailable
from keyclave.operations.log import Log
from keyclave.store.embedded.groups import GROUP
from keyclave.store.sqlite import SqliteStore
from tests.store.units import FULL, Note, Wire, kept, new_store, no_gaps, remember, remembered, wired

pytestmark = pytest.mark.file_store(
    "commits that SQLite loses or only says it lost; test_postgres_faults.py has those of PostgreSQL"
)

FAULTS = [
    sqlite3.OperationalError(FULL),
    sqlite3.OperationalError("disk I/O error"),
    sqlite3.OperationalError("database is locked"),
    sqlite3.DatabaseError("database disk image is malformed"),
]
STATEMENTS = ["BEGIN", "SAVEPOINT", "RELEASE", "INSERT INTO segments", "COMMIT"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = new_store(tmp_path)
    yield made
    made.close()


def _followed(store: SqliteStore) -> list[str]:
    """Collect what the log is given; a gap or a repetition fails the test."""
    seen: list[str] = []

    def follow(first: int, entries: list[bytes]) -> None:
        assert first == len(seen)
        seen.extend(bytes(e).decode() for e in entries)

    store.followed_by(follow, 0)
    return seen


@pytest.mark.requirement("P1", "R5")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault).replace(" ", "-"))
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_group_that_did_nothing_fails_for_everybody_and_numbering_goes_on(
    store: SqliteStore, statement: str, fault: Exception
) -> None:
    wire, seen = wired(store), _followed(store)
    store.enqueue(Note("before"))
    store.flush()
    group = [Note("one"), Note("two", act=remember("two", b"2")), Note("three", events=3)]
    for unit in group:
        store.enqueue(unit)
    wire.fail[statement] = [fault]
    store.flush()
    assert all(len(unit.told) == 1 and isinstance(unit.told[0], Unavailable) for unit in group)
    assert remembered(store, "two") is None
    assert kept(store) == ["0 before ok"]
    after = Note("after", act=remember("two", b"again"))
    assert store.enqueue(after) == 1
    store.flush()
    assert after.told == [None]
    assert kept(store) == seen == ["0 before ok", "1 after ok"]
    assert no_gaps(store)


@pytest.mark.requirement("P1", "R5")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault).replace(" ", "-"))
def test_a_group_that_persisted_though_its_commit_failed_is_found_and_followed(store: SqliteStore, fault: Exception) -> None:
    wire, seen = wired(store), _followed(store)
    group = [Note("one", act=remember("one", b"1")), Note("two", events=2)]
    for unit in group:
        store.enqueue(unit)
    wire.fail_after["COMMIT"] = [fault]
    store.flush()
    assert all(len(unit.told) == 1 and isinstance(unit.told[0], Unavailable) for unit in group)
    assert seen == kept(store) == ["0 one ok", "1 two ok", "2 two ok"]
    assert remembered(store, "one") == b"1"
    after = Note("after")
    assert store.enqueue(after) == 3
    store.flush()
    assert after.told == [None]
    assert seen == kept(store)
    assert no_gaps(store)


@pytest.mark.requirement("P1")
def test_what_is_told_after_a_commit_of_unknown_outcome_does_not_claim_to_know_it(store: SqliteStore) -> None:
    """ "Nothing was done" would be a lie here, and a caller who believes it makes the change twice."""
    wire = wired(store)
    unit = Note("one")
    store.enqueue(unit)
    wire.fail_after["COMMIT"] = [sqlite3.OperationalError("disk I/O error")]
    store.flush()
    assert isinstance(unit.told[0], Unavailable)
    assert "nothing was done" not in unit.told[0].detail


def test_those_behind_the_failed_group_fail_with_it_for_their_numbers_are_gone(store: SqliteStore) -> None:
    wire = wired(store)
    units = [Note(f"u{i}") for i in range(GROUP + 10)]
    for unit in units:
        store.enqueue(unit)
    wire.fail["COMMIT"] = [sqlite3.OperationalError(FULL)]
    store.flush()
    assert all(len(unit.told) == 1 and isinstance(unit.told[0], Unavailable) for unit in units)
    assert kept(store) == []
    assert store.enqueue(Note("next")) == 0
    store.flush()
    assert no_gaps(store)


@pytest.mark.requirement("P1", "R5")
@pytest.mark.parametrize("persisted", [False, True], ids=["did nothing", "persisted"])
@pytest.mark.parametrize("worse", ["SELECT", "ROLLBACK"])
def test_numbering_goes_on_without_a_gap_after_the_store_did_not_answer_at_all(
    store: SqliteStore, persisted: bool, worse: str
) -> None:
    """The commit fails, and so does the look at where the log ends: it must be looked for again before a number is given."""
    wire, seen = wired(store), _followed(store)
    store.enqueue(Note("before"))
    store.flush()
    fault = sqlite3.OperationalError("disk I/O error")
    (wire.fail_after if persisted else wire.fail)["COMMIT"] = [fault]
    wire.fail[worse] = [fault, fault]
    lost = [Note("one"), Note("two")]
    for unit in lost:
        store.enqueue(unit)
    store.flush()
    assert all(len(unit.told) == 1 and isinstance(unit.told[0], Unavailable) for unit in lost)
    answered = _until_it_answers(store, wire)
    assert answered.told == [None]
    assert kept(store) == seen
    assert no_gaps(store)
    assert [line.split()[1] for line in seen] == ["before", *(["one", "two"] if persisted else []), answered.name]


def _until_it_answers(store: SqliteStore, wire: Wire) -> Note:
    """Ask again until the planned faults are used up."""
    for attempt in range(10):
        unit = Note(f"again{attempt}")
        store.enqueue(unit)
        store.flush()
        if unit.told == [None]:
            return unit
        assert isinstance(unit.told[0], Unavailable)
    raise AssertionError(f"the store did not recover: {wire.diary[-10:]}")


@pytest.mark.requirement("P1")
def test_a_reader_that_fails_while_looking_back_does_not_stop_the_log_for_ever(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, seen = wired(store), _followed(store)
    wire.fail_after["COMMIT"] = [sqlite3.OperationalError("disk I/O error")]
    with monkeypatch.context() as patch:
        patch.setattr("keyclave.store.embedded.following.read_log", _raising)
        store.enqueue(Note("one"))
        store.flush()
    assert _until_it_answers(store, wire).told == [None]
    assert kept(store) == seen
    assert len(seen) == 2


def _raising(*_: object) -> list[bytes]:
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.requirement("P2", "R40")
def test_the_tree_is_that_of_the_rows_whatever_failed_on_the_way(store: SqliteStore, tmp_path: Path) -> None:
    log = Log(store, SystemClock(), "example.org/log", [])
    store.followed_by(log.take, 0)
    wire = wired(store)
    for i in range(600):  # over two tiles, every seventh commit fails, by turns before and after it happened
        store.enqueue(Note(f"u{i}"))
        if i % 7 == 0:
            (wire.fail if i % 2 else wire.fail_after)["COMMIT"] = [sqlite3.OperationalError(FULL)]
        store.flush()
    assert no_gaps(store)
    assert log.size == len(kept(store)) > 512
    again = new_store(tmp_path)
    assert (
        Log(again, SystemClock(), "example.org/log", []).root_at(log.size)
        == log.root_at(log.size)
        == tree_root(log.size, log._read)
    )
    again.close()


def test_a_rule_outside_a_unit_leaves_no_open_transaction_behind(store: SqliteStore) -> None:
    wire = wired(store)
    for statement in ("BEGIN", "COMMIT"):
        wire.fail[statement] = [sqlite3.OperationalError(FULL)]
        with pytest.raises(Unavailable):
            store.write(remember("x", b"1"))
    with pytest.raises(ZeroDivisionError):
        store.write(lambda conn: (remember("x", b"1")(conn), 1 // 0))
    assert remembered(store, "x") is None
    store.write(remember("x", b"2"))
    assert remembered(store, "x") == b"2"

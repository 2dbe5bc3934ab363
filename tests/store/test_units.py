"""Group commit as every store must do it, on each engine: in order, without gaps, told only once it is durable."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import Broken, Conflict, KeyclaveError, WrongState
from keyclave.store import key_rows, meta_rows
from keyclave.store.embedded.groups import GROUP
from keyclave.store.sqlite import SqliteStore
from tests.postgres import Database
from tests.store.units import AnyStore, Note, keep, kept, new_postgres, no_gaps, remember, remembered, segments


def test_a_group_is_one_row_in_the_order_of_arrival(any_store: AnyStore) -> None:
    units = [Note(f"u{i}", events=1 + i % 3) for i in range(50)]
    told = [any_store.enqueue(unit) for unit in units]
    any_store.flush()
    assert [unit.first for unit in units] == told
    assert segments(any_store) == [(0, sum(unit.events for unit in units))]
    assert kept(any_store) == [f"{u.first + i} {u.name} ok" for u in units for i in range(u.events)]
    assert no_gaps(any_store)


def test_a_crowd_beyond_one_group_is_committed_in_several(any_store: AnyStore) -> None:
    units = [Note(f"u{i}") for i in range(2 * GROUP + 7)]
    for unit in units:
        any_store.enqueue(unit)
    any_store.flush()
    assert [count for _, count in segments(any_store)] == [GROUP, GROUP, 7]
    assert all(unit.told == [None] for unit in units)
    assert no_gaps(any_store)


def test_what_arrives_while_answers_leave_gets_the_next_numbers(any_store: AnyStore) -> None:
    class Chain(Note):
        def done(self, failure: Exception | None) -> None:
            super().done(failure)
            if len(later) < 5:
                later.append(Note(f"later{len(later)}"))
                any_store.enqueue(later[-1])
                any_store.flush()

    later: list[Note] = []
    for i in range(3):
        any_store.enqueue(Chain(f"c{i}"))
    any_store.flush()
    any_store.flush()
    assert [n.told for n in later] == [[None]] * 3
    assert [line.split()[1] for line in kept(any_store)] == ["c0", "c1", "c2", "later0", "later1", "later2"]
    assert no_gaps(any_store)


def test_one_whose_answer_fails_does_not_keep_the_others_from_theirs(any_store: AnyStore) -> None:
    class Gone(Note):
        def done(self, failure: Exception | None) -> None:
            raise ConnectionResetError("the client is gone")

    last = Note("last")
    for unit in (Note("first"), Gone("gone"), last):
        any_store.enqueue(unit)
    any_store.flush()
    assert last.told == [None]
    assert len(kept(any_store)) == 3


def _refuse(error: Exception) -> Callable[[Connection], None]:
    def act(conn: Connection) -> None:
        remember("half", b"done")(conn)
        raise error

    return act


@pytest.mark.requirement("P1", "R5")
@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (WrongState("not now"), WrongState),
        (IntegrityError("INSERT", None, ValueError("UNIQUE constraint failed")), Conflict),
        (None, Conflict),
        (ZeroDivisionError("a fault of ours"), Broken),
    ],
    ids=["refusal", "constraint", "constraint of the driver's own", "fault"],
)
def test_a_refused_change_is_undone_alone_and_leaves_its_refusal(
    any_store: AnyStore, raised: Exception | None, seen: type[KeyclaveError]
) -> None:
    if raised is None:  # some statements are run on the driver itself
        raised = sqlite3.IntegrityError("UNIQUE") if isinstance(any_store, SqliteStore) else psycopg.errors.UniqueViolation()
    before, refused, after = (
        Note("before", act=remember("b", b"1")),
        Note("refused", act=_refuse(raised)),
        Note("after", act=remember("a", b"1")),
    )
    for unit in (before, refused, after):
        any_store.enqueue(unit)
    any_store.flush()
    assert type(refused.refusal) is seen
    assert [unit.told for unit in (before, refused, after)] == [[None]] * 3
    found = [remembered(any_store, name) for name in ("half", "b", "a")]
    assert found == [None, b"1", b"1"]
    assert kept(any_store) == ["0 before ok", "1 refused refused", "2 after ok"]


def test_a_real_constraint_is_a_conflict_for_its_unit_alone(any_store: AnyStore) -> None:
    one, two = Note("one", act=remember("same", b"1")), Note("two", act=remember("same", b"2"))
    any_store.enqueue(one)
    any_store.enqueue(two)
    any_store.flush()
    assert remembered(any_store, "same") == b"1"
    assert isinstance(two.refusal, Conflict)
    assert kept(any_store) == ["0 one ok", "1 two refused"]


def test_a_unit_that_leaves_another_number_of_events_than_it_said_fails_before_it_is_kept(any_store: AnyStore) -> None:
    """Its neighbours have been told numbers that would not be theirs."""

    class Liar(Note):
        def _leaves(self, outcome: str, first: int) -> list[bytes]:
            return [*super()._leaves(outcome, first), b"one more"]

    any_store.enqueue(Note("change", act=remember("y", b"1")))
    any_store.enqueue(Liar("liar", act=remember("x", b"1")))
    any_store.flush()
    any_store.enqueue(Note("b"))
    any_store.flush()
    assert kept(any_store) == ["0 b ok"]
    assert remembered(any_store, "x") is remembered(any_store, "y") is None  # nor is the rest of its group


def test_entries_are_read_back_from_any_place_over_any_number_of_rows(any_store: AnyStore) -> None:
    for size in (1, 2, 3, 5, 8, 13):
        for i in range(size):
            any_store.enqueue(Note(f"s{size}-{i}"))
        any_store.flush()
    everything = kept(any_store)
    assert len(everything) == 32
    for first in range(34):
        for count in (0, 1, 2, 7, 40):
            read = [bytes(e).decode() for e in any_store.read_entries(first, count)]
            assert read == everything[first : first + count], (first, count)
    assert all(any_store.find_place(any_store.node, number) == number for number in range(32))
    assert any_store.find_place(any_store.node, 32) is None


def test_an_entry_may_be_as_long_as_a_bundle_allows_and_hold_any_bytes(any_store: AnyStore) -> None:
    class Long(Note):
        def _leaves(self, outcome: str, first: int) -> list[bytes]:
            return [bytes(range(256)) * 255 + bytes(255)]

    any_store.enqueue(Long("long"))
    any_store.enqueue(Note("next"))
    any_store.flush()
    kept_before = segments(any_store)
    assert sum(count for _, count in kept_before) == 2
    from tests.store.units import place

    place(any_store)
    long, following = any_store.read_entries(0, 2)
    assert (len(long), long[:256], following) == (65_535, bytes(range(256)), b"1 next ok")


def test_what_no_text_can_be_is_not_found_rather_than_a_fault(any_store: AnyStore) -> None:
    found = any_store.read(lambda conn: [key_rows.read_key(conn, "t", ref) for ref in ("\0", "key_\0", "a\0b")])
    assert found == [None, None, None]


def test_nothing_that_no_text_can_be_is_kept(database: Database) -> None:
    with new_postgres(database) as store:
        one, two = Note("one", act=remember("a\0b", b"1")), Note("two", act=remember("c", b"1"))
        for unit in (one, two):
            store.enqueue(unit)
        store.flush()
        assert isinstance(one.refusal, Broken)
        assert (one.told, two.told) == ([None], [None])
        assert remembered(store, "c") == b"1"


# ---- what only adds rows ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("taken", [0, 3, 7])
def test_one_that_is_refused_takes_nobody_along(any_store: AnyStore, taken: int) -> None:
    keep(any_store, Note("first", adds=("n3x",)))
    units = [Note(f"u{i}", adds=(f"n{i}", "n3x") if i == taken else (f"n{i}",)) for i in range(8)]
    keep(any_store, *units)
    assert [unit.refusal is not None for unit in units] == [i == taken for i in range(8)]
    assert all(unit.told == [None] for unit in units)
    assert [remembered(any_store, f"n{i}") is None for i in range(8)] == [i == taken for i in range(8)]
    said = ["refused" if i == taken else "ok" for i in range(8)]
    assert [line.split()[2] for line in kept(any_store)] == ["ok", *said]
    assert no_gaps(any_store)


def test_of_two_that_add_the_same_the_first_is_kept(any_store: AnyStore) -> None:
    units = [Note(name, adds=("same",)) for name in ("a", "b", "c")]
    keep(any_store, *units)
    assert [unit.refusal is None for unit in units] == [True, False, False]
    assert [line.split()[1:] for line in kept(any_store)] == [["a", "ok"], ["b", "refused"], ["c", "refused"]]


def test_each_finds_what_was_done_before_it_in_its_group(any_store: AnyStore) -> None:
    found: list[bytes | None] = []
    look = Note("look", act=lambda conn: found.append(meta_rows.read_meta(conn, "added")))
    after = Note("after", act=remember("later", b"1"))
    keep(any_store, Note("add", adds=("added",)), look, Note("again", adds=("added",)), after, Note("use"))
    assert found[-1] == b""
    assert [line.split()[1:] for line in kept(any_store)] == [
        ["add", "ok"], ["look", "ok"], ["again", "refused"], ["after", "ok"], ["use", "ok"]
    ]  # fmt: skip
    assert remembered(any_store, "later") == b"1" and no_gaps(any_store)

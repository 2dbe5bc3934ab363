"""The suite notices when what keeps nodes apart is missing: fence, leases, barrier, order. Each is taken out, and its tests must fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, or_, update

from keyclave.operations.nodes import sequencer
from keyclave.operations.nodes.barrier import Barrier, Wait
from keyclave.operations.nodes.follower import Follower, Question
from keyclave.operations.nodes.lease import Lease
from keyclave.operations.nodes.placing import Row
from keyclave.operations.nodes.sequencer import Sequencer
from keyclave.store import nodes, places, sequence
from keyclave.store.node_tables import leases
from tests.cluster import test_lease_and_barrier as alone
from tests.cluster import test_rows as rows
from tests.store.test_mutations import fails

pytestmark = pytest.mark.requirement("R6", "R22", "P4")

Patch = pytest.MonkeyPatch


@pytest.fixture(params=["sqlite", "postgresql"])
def conn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    yield from rows.conn.__wrapped__(request, tmp_path)  # type: ignore[attr-defined]


# ---- the sequencer's fence -------------------------------------------------------------------------------------------------
def no_fence(patch: Patch) -> None:
    for module in (sequence, sequencer):
        patch.setattr(module, "hold_lease", lambda *_: True)


def a_fence_that_only_knows_names(patch: Patch) -> None:
    def hold(conn: Connection, name: str, holder: str, _fence: int, length: int) -> bool:
        mine = update(leases).where(leases.c.name == name, leases.c.holder == holder)
        return conn.execute(mine.values(until=nodes.now_of(conn) + length)).rowcount == 1

    for module in (sequence, sequencer):
        patch.setattr(module, "hold_lease", hold)


def a_lease_that_anybody_takes(patch: Patch) -> None:
    real = nodes.or_
    patch.setattr(nodes, "or_", lambda *terms: or_(True, real(*terms)))


def a_lease_that_anybody_gives_away(patch: Patch) -> None:
    def give(conn: Connection, name: str, _holder: str, _fence: int) -> None:
        conn.execute(update(leases).where(leases.c.name == name).values(until=0))

    patch.setattr(nodes, "give_lease", give)


def signatures_without_a_fence(patch: Patch) -> None:
    def keep(conn: Connection, _lease: object, size: int, root: bytes, note: str, at: int) -> None:
        sequence.keep_checkpoint(conn, size, root, note, at)

    patch.setattr(sequence, "keep_signed", keep)


def those_who_are_gone_are_forgotten(patch: Patch) -> None:
    patch.setattr(sequence, "read_backlog", lambda conn: {})


def dates_that_do_not_look_at_events(patch: Patch) -> None:
    patch.setattr(Sequencer, "_saw", lambda self, leaves: None)


ROWS: list[tuple[Callable[[Patch], None], Callable[[Connection], object]]] = [
    (no_fence, rows.test_one_lease_has_one_holder_and_a_late_one_writes_nothing),
    (no_fence, rows.test_a_later_term_of_the_same_node_fences_the_earlier_one),
    (a_fence_that_only_knows_names, rows.test_a_later_term_of_the_same_node_fences_the_earlier_one),
    (a_lease_that_anybody_takes, rows.test_one_lease_has_one_holder_and_a_late_one_writes_nothing),
    (a_lease_that_anybody_gives_away, rows.test_a_later_term_of_the_same_node_fences_the_earlier_one),
    (signatures_without_a_fence, rows.test_one_lease_has_one_holder_and_a_late_one_writes_nothing),
    (those_who_are_gone_are_forgotten, rows.test_every_journal_gets_its_places_in_its_order_and_the_next_sequencer_goes_on),
    (dates_that_do_not_look_at_events, rows.test_no_checkpoint_is_dated_before_what_it_covers_whoever_goes_on),
]


@pytest.mark.parametrize(("mutate", "test"), ROWS, ids=lambda one: one.__name__)
def test_what_keeps_sequencers_apart_is_missed(
    conn: Connection, monkeypatch: Patch, mutate: Callable[[Patch], None], test: Callable[[Connection], object]
) -> None:
    mutate(monkeypatch)
    assert fails(lambda: test(conn))


def test_the_one_place_of_each_event_is_missed(conn: Connection, monkeypatch: Patch) -> None:
    """Without the fence the tables are the last that refuses: without them as well, an event is placed twice."""
    with pytest.raises(pytest.fail.Exception):
        _without_places(conn, monkeypatch)


def _without_places(conn: Connection, monkeypatch: Patch) -> None:
    read = places.head
    monkeypatch.setattr(sequence, "place", lambda conn, _lease, given, tiles: _place_at_the_end(conn, read(conn), given))
    rows.test_without_the_fence_the_tables_still_place_nothing_twice(conn, monkeypatch)


def _place_at_the_end(conn: Connection, head: int, given: list[Any]) -> None:
    for _, count, _node, _first in given:
        conn.exec_driver_sql(f"INSERT INTO segments (first, count, entries) VALUES ({head}, {count}, '\\000')")


# ---- leases, barrier, follower ---------------------------------------------------------------------------------------------
def an_announcement_counts_as_a_lease(patch: Patch) -> None:
    def renewed(self: Lease, asked: float) -> bool:
        self._seen_until = self._until = asked + self.seconds
        return True

    patch.setattr(Lease, "renewed", renewed)


def a_lease_counts_from_the_answer(patch: Patch) -> None:
    real = Lease.renewed
    patch.setattr(Lease, "renewed", lambda self, _asked: real(self, self._clock()))


def nobody_is_waited_for(patch: Patch) -> None:
    patch.setattr(Barrier, "behind", lambda self, change, now: [])


def a_silent_one_is_waited_for_for_ever(patch: Patch) -> None:
    real = Barrier.over
    patch.setattr(Barrier, "over", lambda self, now, *, read: real(self, 0.0, read=read))


def a_change_needs_no_number(patch: Patch) -> None:
    def over(self: Barrier, now: float, *, read: bool) -> list[Wait]:
        done, self.waiting = self.waiting, []
        return done if read else []

    patch.setattr(Barrier, "over", over)


def gaps_are_overlooked(patch: Patch) -> None:
    def read(self: Follower, asked: float, change: int, found: list[Any]) -> Question:
        return Question(asked, change, [name for _, names in found for name in names])

    patch.setattr(Follower, "read", read)


def journals_are_not_looked_at_for_gaps(patch: Patch) -> None:
    def by_time(found: list[Row], _placed: dict[str, int]) -> list[Row]:
        return sorted(found, key=lambda row: (row.at, row.node, row.first))

    patch.setattr(rows, "in_order", by_time)


ALONE: list[tuple[Callable[[Patch], None], Callable[[], object]]] = [
    (an_announcement_counts_as_a_lease, alone.test_a_node_that_was_passed_by_while_it_renewed_does_not_trust_that_renewal),
    (an_announcement_counts_as_a_lease, alone.test_a_lease_counts_from_before_the_question_and_ends_by_itself),
    (a_lease_counts_from_the_answer, alone.test_a_lease_counts_from_before_the_question_and_ends_by_itself),
    (nobody_is_waited_for, alone.test_a_healthy_node_is_waited_for_and_a_silent_one_only_so_long),
    (a_silent_one_is_waited_for_for_ever, alone.test_a_healthy_node_is_waited_for_and_a_silent_one_only_so_long),
    (a_change_needs_no_number, alone.test_nobody_is_released_before_a_number_was_read_after_the_commit),
    (gaps_are_overlooked, alone.test_a_gap_in_the_changes_voids_everything),
    (journals_are_not_looked_at_for_gaps, rows.test_a_gap_in_a_journal_stops_the_sequencer),
]


@pytest.mark.parametrize(("mutate", "test"), ALONE, ids=lambda one: one.__name__)
def test_what_keeps_an_old_right_from_being_used_is_missed(
    monkeypatch: Patch, mutate: Callable[[Patch], None], test: Callable[[], object]
) -> None:
    mutate(monkeypatch)
    assert fails(test)

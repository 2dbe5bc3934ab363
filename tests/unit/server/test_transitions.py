"""The one lifecycle table, cell by cell: what it says, nothing else, whatever the way there."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from keyclave.core.errors import WrongState
from keyclave.keys.model import Version
from keyclave.keys.states import GONE, PERMITS, State, Use, permits
from keyclave.keys.transitions import FIRST, MAY, TRANSITIONS, Move, after, can_move, moved, possible

# Written out by hand from SP 800-57 part 1 rev 5 section 7 (and 8.3.1 for the archive), independently of the table under test.
EXPECTED = {
    "pre-active": {"activate": "active", "compromise": "compromised", "destroy": "destroyed"},
    "active": {"suspend": "suspended", "deactivate": "deactivated", "supersede": "deactivated", "compromise": "compromised"},
    "suspended": {"resume": "active", "deactivate": "deactivated", "compromise": "compromised"},
    "deactivated": {"archive": "archived", "destroy": "destroyed", "compromise": "compromised"},
    "archived": {"recover": "deactivated", "destroy": "destroyed", "compromise": "compromised"},
    "compromised": {"destroy": "destroyed-compromised"},
    "destroyed": {"compromise": "destroyed-compromised"},
    "destroyed-compromised": {},
}
PROTECT = {"active"}
PROCESS = {"active", "deactivated"}


def version(state: State = FIRST) -> Version:
    return Version(number=1, state=state, origin="generated", kcv="00000000", created_at=1)


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", Move)
def test_every_cell_of_the_table(state: State, move: Move) -> None:
    expected = EXPECTED[state.value].get(move.value)
    if expected is None:
        with pytest.raises(WrongState) as refused:
            after(state, move)
        assert move.value in refused.value.detail
        for other in EXPECTED[state.value]:
            assert other in refused.value.hint or other == "supersede"
    else:
        assert after(state, move).value == expected
        assert move in possible(state)


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("scheduled", [False, True])
def test_what_each_state_permits(state: State, scheduled: bool) -> None:
    assert permits(state, Use.PROTECT, destruction_scheduled=scheduled) == (state.value in PROTECT and not scheduled)
    assert permits(state, Use.PROCESS, destruction_scheduled=scheduled) == (state.value in PROCESS and not scheduled)
    assert PERMITS[state].advice or state is State.ACTIVE


@pytest.mark.requirement("R23", "R10")
def test_every_move_has_roles_and_no_application_makes_one() -> None:
    assert set(MAY) == set(Move)
    for roles in MAY.values():
        assert roles
        assert set(roles) <= {"custodian", "operator"}


@pytest.mark.requirement("R23")
@given(st.lists(st.sampled_from(list(Move)), max_size=30))
def test_no_walk_revives_what_is_over(moves: list[Move]) -> None:
    current = version()
    seen = [current.state]
    for at, move in enumerate(moves, 2):
        if (current.state, move) not in TRANSITIONS:
            continue
        current = moved(current, move, at)
        seen.append(current.state)
    for before, now in itertools.pairwise(seen):
        if before in GONE:
            assert now in GONE
        if before is State.COMPROMISED:
            assert now is State.DESTROYED_COMPROMISED
        if now is State.ACTIVE:
            assert before in {State.PRE_ACTIVE, State.SUSPENDED}
    assert (current.destroyed_at is not None) == (current.state in GONE)


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("scheduled", [False, True])
def test_what_is_scheduled_for_destruction_stays_where_it_can_be_destroyed(state: State, move: Move, scheduled: bool) -> None:
    """Activated in between, it was active with a day of destruction, and could not be destroyed when that came."""
    before = version(state)
    if scheduled:
        before = structs.replace(before, destroy_at=99, destroy_by="first-custodian")
    expected = EXPECTED[state.value].get(move.value)
    destroyable = expected is not None and ("destroy" in EXPECTED[expected] or expected.startswith("destroyed"))
    allowed = expected is not None and (destroyable or not before.scheduled)
    assert can_move(before, move) == allowed
    if allowed:
        now = moved(before, move, 50)
        assert now.state.value == expected
        assert not now.scheduled or (now.state, Move.DESTROY) in TRANSITIONS
        assert (now.destroy_at, now.destroy_by) == (before.destroy_at, before.destroy_by)
    else:
        with pytest.raises(WrongState) as refused:
            moved(before, move, 50)
        assert expected is None or "cancel the destruction" in refused.value.hint


@pytest.mark.requirement("R23")
def test_moves_set_and_clear_their_dates() -> None:
    active = moved(version(), Move.ACTIVATE, 10)
    assert active.activated_at == 10
    suspended = moved(active, Move.SUSPEND, 20)
    assert suspended.suspended_at == 20
    resumed = moved(suspended, Move.RESUME, 30)
    assert (resumed.suspended_at, resumed.activated_at) == (None, 10)
    archived = moved(moved(resumed, Move.DEACTIVATE, 40), Move.ARCHIVE, 50)
    assert (archived.deactivated_at, archived.archived_at) == (40, 50)
    assert moved(archived, Move.RECOVER, 60).archived_at is None

"""The life of a key version as ONE table: `(state, move) -> state`, with who may make the move and why it is there.

Everything else is printed from it: docs/life-of-a-key.md, the refusals, the exhaustive tests. A pair that is not in the table
cannot happen: `after` is the only function that gives a version a new state, and no other module assigns one.
Source: SP 800-57 part 1 rev 5, section 7 (T1-T15 are its transitions); archive and recover are section 8.3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from keyclave.core.errors import WrongState
from keyclave.keys.model import Version
from keyclave.keys.states import GONE, State


class Move(StrEnum):
    """What can be done to a key version."""

    ACTIVATE = "activate"
    SUSPEND = "suspend"
    RESUME = "resume"
    SUPERSEDE = "supersede"
    DEACTIVATE = "deactivate"
    COMPROMISE = "compromise"
    ARCHIVE = "archive"
    RECOVER = "recover"
    DESTROY = "destroy"


@dataclass(frozen=True)
class Transition:
    """One row: the state after the move, its number in SP 800-57, and what must hold on entry and exit."""

    after: State
    source: str
    entry: str


CUSTODIAN = "custodian"
OPERATOR = "operator"

MAY: dict[Move, tuple[str, ...]] = {
    Move.ACTIVATE: (CUSTODIAN,),
    Move.SUSPEND: (OPERATOR, CUSTODIAN),
    Move.RESUME: (OPERATOR,),
    Move.SUPERSEDE: (OPERATOR,),
    Move.DEACTIVATE: (OPERATOR,),
    Move.COMPROMISE: (OPERATOR, CUSTODIAN),
    Move.ARCHIVE: (CUSTODIAN,),
    Move.RECOVER: (CUSTODIAN,),
    Move.DESTROY: (CUSTODIAN,),
}
"""The roles that may make each move. Supersede is the old version's half of a rotation."""

_S = State
_NEVER_USED = "never used; destruction scheduled, waiting period over"
_NO_LONGER = "destruction scheduled by another custodian, waiting period over"
_SUSPECT = "disclosure or change is suspected or known; a reason is recorded"

TRANSITIONS: dict[tuple[State, Move], Transition] = {
    (_S.PRE_ACTIVE, Move.DESTROY): Transition(_S.DESTROYED, "T2", _NEVER_USED),
    (_S.PRE_ACTIVE, Move.COMPROMISE): Transition(_S.COMPROMISED, "T3", _SUSPECT),
    (_S.PRE_ACTIVE, Move.ACTIVATE): Transition(_S.ACTIVE, "T4", "no destruction is scheduled; its cryptoperiod starts now"),
    (_S.ACTIVE, Move.COMPROMISE): Transition(_S.COMPROMISED, "T6", _SUSPECT),
    (_S.ACTIVE, Move.SUSPEND): Transition(_S.SUSPENDED, "T7", "temporary; a reason is recorded"),
    (_S.ACTIVE, Move.DEACTIVATE): Transition(_S.DEACTIVATED, "T8", "the end of its use for protection"),
    (_S.ACTIVE, Move.SUPERSEDE): Transition(_S.DEACTIVATED, "T8", "a newer version has become primary"),
    (_S.SUSPENDED, Move.RESUME): Transition(_S.ACTIVE, "T10", "the reason is gone and its period for protection is not over"),
    (_S.SUSPENDED, Move.COMPROMISE): Transition(_S.COMPROMISED, "T11", _SUSPECT),
    (_S.SUSPENDED, Move.DEACTIVATE): Transition(_S.DEACTIVATED, "T12", "its period for protection is over"),
    (_S.DEACTIVATED, Move.COMPROMISE): Transition(_S.COMPROMISED, "T13", _SUSPECT),
    (_S.DEACTIVATED, Move.DESTROY): Transition(_S.DESTROYED, "T14", _NO_LONGER),
    (_S.DEACTIVATED, Move.ARCHIVE): Transition(_S.ARCHIVED, "8.3.1", "its material is moved under the archive key"),
    (_S.ARCHIVED, Move.RECOVER): Transition(_S.DEACTIVATED, "8.3.1", "to process only, never to protect again"),
    (_S.ARCHIVED, Move.COMPROMISE): Transition(_S.COMPROMISED, "T13", _SUSPECT),
    (_S.ARCHIVED, Move.DESTROY): Transition(_S.DESTROYED, "T14", _NO_LONGER),
    (_S.COMPROMISED, Move.DESTROY): Transition(_S.DESTROYED_COMPROMISED, "T15", _NO_LONGER),
    (_S.DESTROYED, Move.COMPROMISE): Transition(
        _S.DESTROYED_COMPROMISED, "7.6", "a compromise found after destruction is recorded"
    ),
}

FIRST = State.PRE_ACTIVE
"""T1: every version begins here, at once on generation or import."""

REASON_REQUIRED = frozenset({Move.SUSPEND, Move.COMPROMISE})


def possible(state: State) -> list[Move]:
    """Return the moves the table knows from `state`, in the order of `Move`."""
    return [move for move in Move if (state, move) in TRANSITIONS]


def after(state: State, move: Move) -> State:
    """Return the state after the move; a pair that is not in the table raises `WrongState` and names what is possible."""
    transition = TRANSITIONS.get((state, move))
    if transition is None:
        others = ", ".join(m.value for m in possible(state) if m is not Move.SUPERSEDE) or "nothing: this state is final"
        raise WrongState(f"a key version that is {state.value} cannot {move.value}", f"possible from here: {others}")
    return transition.after


_STAMP: dict[Move, str] = {
    Move.ACTIVATE: "activated_at",
    Move.SUSPEND: "suspended_at",
    Move.SUPERSEDE: "deactivated_at",
    Move.DEACTIVATE: "deactivated_at",
    Move.COMPROMISE: "compromised_at",
    Move.ARCHIVE: "archived_at",
    Move.DESTROY: "destroyed_at",
}
"""Which date each move sets. Resume and recover clear the date of what they undo; the log keeps it."""

_CLEARS: dict[Move, str] = {Move.RESUME: "suspended_at", Move.RECOVER: "archived_at"}


def can_move(version: Version, move: Move) -> bool:
    """Tell whether `moved` would refuse: the table knows the move, and no scheduled destruction stands against it."""
    transition = TRANSITIONS.get((version.state, move))
    return transition is not None and not _leads_away(version, transition.after)


def _leads_away(version: Version, state: State) -> bool:
    """Tell whether a version whose destruction is scheduled would come to where it cannot be destroyed.

    One that was activated so would be active, of no use to anybody, and still there after the day it was to be gone.
    """
    return version.scheduled and state not in GONE and (state, Move.DESTROY) not in TRANSITIONS


def moved(version: Version, move: Move, at: int) -> Version:
    """Return `version` after the move, made at `at` (microseconds since the epoch)."""
    changes: dict[str, object] = {"state": after(version.state, move)}
    if not can_move(version, move):
        raise WrongState(f"version {version.number} is scheduled for destruction", f"to {move.value} it, cancel the destruction")
    if move in _STAMP:
        changes[_STAMP[move]] = at
    if move in _CLEARS:
        changes[_CLEARS[move]] = None
    return msgspec.structs.replace(version, **changes)

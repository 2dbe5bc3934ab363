"""The states of a key version and what each permits (SP 800-57 part 1 rev 5, section 7; archived is ours, section 8.3.1).

`protect` is applying protection (encrypt, wrap, sign, MAC); `process` is removing or checking it (decrypt, unwrap, verify).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a key version stands in its life."""

    PRE_ACTIVE = "pre-active"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DEACTIVATED = "deactivated"
    ARCHIVED = "archived"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"
    DESTROYED_COMPROMISED = "destroyed-compromised"


class Use(StrEnum):
    """The two ways of using a key."""

    PROTECT = "protect"
    PROCESS = "process"


@dataclass(frozen=True)
class Permission:
    """What a state permits, and the sentence that a refused caller is shown."""

    protect: bool
    process: bool
    advice: str


PERMITS: dict[State, Permission] = {
    State.PRE_ACTIVE: Permission(False, False, "activate it first"),
    State.ACTIVE: Permission(True, True, ""),
    State.SUSPENDED: Permission(False, False, "an operator can resume it when the reason for the suspension is gone"),
    State.DEACTIVATED: Permission(False, True, "use the primary version; this one only opens what it protected"),
    State.ARCHIVED: Permission(False, False, "a custodian can recover it from the archive"),
    State.COMPROMISED: Permission(False, False, "it may be used only under an incident; re-encrypt from a recovered copy"),
    State.DESTROYED: Permission(False, False, "its material no longer exists"),
    State.DESTROYED_COMPROMISED: Permission(False, False, "its material no longer exists"),
}

GONE = frozenset({State.DESTROYED, State.DESTROYED_COMPROMISED})
"""States without material: the row stays as a tombstone (SP 800-57 part 1, sections 7.4-7.6 and 8.4)."""


def permits(state: State, use: Use, *, destruction_scheduled: bool) -> bool:
    """Tell whether a version in `state` may be used so.

    A version whose destruction is scheduled is not used at all: whoever still depends on it finds out while
    `cancel-destruction` is possible, not after.
    """
    if destruction_scheduled:
        return False
    permission = PERMITS[state]
    return permission.protect if use is Use.PROTECT else permission.process

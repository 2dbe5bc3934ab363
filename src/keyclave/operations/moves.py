"""activate, suspend, resume, deactivate, compromise: the moves that only change the state, straight from the table."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from keyclave.core.errors import Malformed, StaleRevision, Unknown, WrongState
from keyclave.keys.model import Key, Version
from keyclave.keys.transitions import REASON_REQUIRED, Move, can_move, moved
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Number, Reason, Request
from keyclave.operations.key_view import KeyView, view
from keyclave.operations.keyring import LoadedKey
from keyclave.store import key_rows


class MoveRequest(Request, kw_only=True):
    """`version` omitted: every version that can make the move."""

    version: Number | None = None
    reason: Reason = ""


MoveRun = Callable[[Desk, Attempt, LoadedKey, MoveRequest], Callable[[Connection], KeyView]]


def move(name: Move) -> MoveRun:
    """Return the verb that makes this move."""

    def run(_desk: Desk, attempt: Attempt, key: LoadedKey, request: MoveRequest) -> Callable[[Connection], KeyView]:
        before = key.key
        expect_revision(attempt, before)
        if name in REASON_REQUIRED and not request.reason:
            raise Malformed(f"{name.value} needs a reason", "say why: it is recorded with the change")
        numbers = chosen(before, name, request.version)
        now = _moved(before, name, numbers, attempt.at)
        attempt.version, attempt.reason = numbers[0], request.reason
        attempt.detail = {"versions": ",".join(map(str, numbers))}

        def change(transaction: Connection) -> KeyView:
            return view(key_rows.update_key(transaction, before, now))

        return change

    return run


def chosen(key: Key, name: Move, version: int | None) -> list[int]:
    """Return the numbers of the versions to move; none that can is `WrongState` with what is possible."""
    if version is not None:
        one = key.version(version)
        if one is None:
            raise Unknown("no such key version", "see `keyclave key show` for its versions")
        moved(one, name, 0)  # raises what is possible instead
        return [version]
    able = [v.number for v in key.versions if can_move(v, name)]
    if name is Move.ACTIVATE:
        able = able[-1:]  # activating makes primary, and there is one primary
    if not able:
        states = ", ".join(f"{v.number} is {v.state.value}{', to be destroyed' * v.scheduled}" for v in key.versions[-5:])
        raise WrongState(f"no version of this key can {name.value}", f"version {states}")
    return able


def _moved(before: Key, name: Move, numbers: list[int], at: int) -> Key:
    versions: list[Version] = []
    for version in before.versions:
        if version.number in numbers:
            version = moved(version, name, at)  # noqa: PLW2901 - the new record takes the old one's place
        versions.append(version)
    primary = before.primary
    if name is Move.RESUME and any(at >= (before.protect_until(v) or at) for v in versions if v.number in numbers):
        raise WrongState("its period for protection is over", "deactivate it; a rotation makes a new version")  # T10
    if name is Move.ACTIVATE:
        if primary is not None and before.versions[primary - 1].state.value == "active":
            raise WrongState("another version is primary and active", "rotate the key instead")
        primary = numbers[-1]
    return msgspec.structs.replace(before, versions=tuple(versions), primary=primary)


def expect_revision(attempt: Attempt, key: Key) -> None:
    """Hold the caller to the revision they named with If-Match."""
    if attempt.if_match is not None and attempt.if_match != key.rev:
        raise StaleRevision(
            f"the key is at revision {key.rev}, not {attempt.if_match}",
            "read it again with `keyclave key show` and repeat the change",
        )

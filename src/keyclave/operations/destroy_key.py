"""schedule-destruction, cancel-destruction, destroy: three acts, two custodians, and a time in between to find out.

While destruction is scheduled the version is used by nobody, so whoever still depends on it notices while it can be stopped.
Destroying nulls the material and leaves the row: dates, check value and who did it outlive the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.clock import to_text
from keyclave.core.errors import Malformed, Unknown, WrongState
from keyclave.keys.model import DAY, Key, Version
from keyclave.keys.transitions import TRANSITIONS, Move, moved
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Number, Reason, Request
from keyclave.operations.key_view import KeyView, view
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.moves import MoveRequest, expect_revision
from keyclave.store import key_rows

LONGEST = 365


class ScheduleRequest(Request, kw_only=True):
    """Destroy `version` not before `days` from now; fewer than the server's minimum is refused."""

    version: Number
    days: Annotated[int, Meta(ge=0, le=LONGEST)] = 30
    reason: Reason = ""


def schedule(desk: Desk, attempt: Attempt, key: LoadedKey, request: ScheduleRequest) -> Callable[[Connection], KeyView]:
    """Set the day, and stop every use until it is over or cancelled."""
    before, version = _one(attempt, key, request.version)
    if (version.state, Move.DESTROY) not in TRANSITIONS:
        raise WrongState(
            f"version {version.number} is {version.state.value}", "only what no longer protects is destroyed: deactivate first"
        )
    if version.scheduled:
        raise WrongState("its destruction is already scheduled", "cancel it first to set another day")
    if not request.reason:
        raise Malformed("destruction needs a reason", "say why: it is recorded with the change")
    if request.days < desk.destruction_days:
        raise Malformed(f"the waiting period is at least {desk.destruction_days} days", "choose more days")
    at = attempt.at + request.days * DAY
    now = _replaced(before, msgspec.structs.replace(version, destroy_at=at, destroy_by=attempt.caller.principal))
    attempt.reason, attempt.detail = request.reason, {"destroy_at": to_text(at)}
    return _change(before, now)


def cancel(_desk: Desk, attempt: Attempt, key: LoadedKey, request: MoveRequest) -> Callable[[Connection], KeyView]:
    """Stop a scheduled destruction; the version is what it was before."""
    before, version = _one(attempt, key, request.version)
    if not version.scheduled:
        raise WrongState(f"version {version.number} is not scheduled for destruction", "nothing was changed")
    attempt.reason = request.reason
    return _change(before, _replaced(before, msgspec.structs.replace(version, destroy_at=None, destroy_by=None)))


def destroy(_desk: Desk, attempt: Attempt, key: LoadedKey, request: MoveRequest) -> Callable[[Connection], KeyView]:
    """Destroy the material: after the waiting period. That it is another custodian than the one who scheduled it, policy's
    rules hold (policy/apart.py)."""
    before, version = _one(attempt, key, request.version)
    if version.destroy_at is None or not version.scheduled:
        raise WrongState(f"version {version.number} is not scheduled for destruction", "schedule it with a reason first")
    if attempt.at < version.destroy_at:
        raise WrongState(
            f"its waiting period ends at {to_text(version.destroy_at)}", "destroy it then, or cancel the destruction"
        )
    attempt.reason = request.reason
    attempt.detail = {"kcv": version.kcv, "scheduled_by": version.destroy_by or ""}
    return _change(before, _replaced(before, moved(version, Move.DESTROY, attempt.at)))


def _one(attempt: Attempt, key: LoadedKey, number: int | None) -> tuple[Key, Version]:
    before = key.key
    expect_revision(attempt, before)
    scheduled = [v.number for v in before.versions if v.scheduled]
    if number is None and len(scheduled) == 1:
        number = scheduled[0]
    if number is None:
        raise Malformed("name the version", "destruction is about one version at a time")
    version = before.version(number)
    if version is None:
        raise Unknown("no such key version", "see `keyclave key show` for its versions")
    attempt.version = number
    return before, version


def _replaced(key: Key, version: Version) -> Key:
    versions = tuple(version if v.number == version.number else v for v in key.versions)
    gone = version.destroyed_at is not None and key.primary == version.number
    return msgspec.structs.replace(key, versions=versions, primary=None if gone else key.primary)


def _change(before: Key, now: Key) -> Callable[[Connection], KeyView]:
    def change(transaction: Connection) -> KeyView:
        return view(key_rows.update_key(transaction, before, now))

    return change

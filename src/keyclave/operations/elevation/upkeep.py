"""What the clock does: it writes down that an elevation has ended, and alarms again of reviews that are overdue.

Nobody waits for it to lose a right: an elevation gives nothing after its time, whether or not its end is written down.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS
from keyclave.crypto.digest import sha256
from keyclave.identity.caller import Caller, Credential, Standing
from keyclave.identity.elevation import Elevation
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.elevation.alarms import alarm_keepers
from keyclave.operations.elevation.elevate import CLOCK
from keyclave.operations.forms import Answer
from keyclave.store.access import elevations as rows
from keyclave.store.moments import claim

_AT_ONCE = 100
_CLAIM = 60 * MICROSECONDS  # for one group commit; after it what was claimed is not found any more


def keep_elevations(desk: Desk) -> int:
    """Write down what has ended and alarm of what is overdue; return how many events that will be."""
    now = desk.clock.now()
    over, late = desk.store.read(lambda conn: (rows.over(conn, now, _AT_ONCE), rows.overdue(conn, now, _AT_ONCE)))
    over = _mine(desk, "ended", over, now)
    for elevation in over:
        _ended(desk, elevation)
    due = _mine(desk, "overdue", [elevation for elevation in late if now >= _next_alarm(desk, elevation)], now)
    for elevation in due:
        _alarm(desk, elevation)
    return len(over) + len(due)


def _mine(desk: Desk, what: str, found: list[Elevation], now: int) -> list[Elevation]:
    """Return which of them this node is to write down: the clock strikes at every node, and each would leave its own event.

    A node that claims one and dies leaves it to whoever looks after the claim is over.
    """
    if not found or not desk.store.shared:
        return found
    names = [sha256(canonical("keyclave/claim/1", what, elevation.id)) for elevation in found]
    claimed = desk.store.write(lambda conn: [claim(conn, name, desk.store.node, now, _CLAIM) for name in names])
    return [elevation for elevation, mine in zip(found, claimed, strict=True) if mine]


def _next_alarm(desk: Desk, elevation: Elevation) -> int:
    """Return when people are alarmed next of an overdue review: when it is due, then again after as long as it had."""
    due, last = elevation.review_due_at or 0, elevation.alarmed_at or 0
    again = desk.access.revisions.of(elevation.tenant).rules.break_glass.review_hours * 3600 * MICROSECONDS
    return due if last < due else last + again


def _ended(desk: Desk, elevation: Elevation) -> None:
    attempt = _attempt(desk, "elevation-end", elevation)
    attempt.touches = (elevation.credential,)

    def change(transaction: Connection) -> Answer:
        rows.end_elevations(transaction, [elevation.id], elevation.ends_at, CLOCK)
        return Answer()

    _do(desk, attempt, change)


def _alarm(desk: Desk, elevation: Elevation) -> None:
    attempt = _attempt(desk, "review-overdue", elevation)

    def change(transaction: Connection) -> Answer:
        alarm_keepers(desk, transaction, elevation, "review-overdue", attempt.at)
        return Answer()

    _do(desk, attempt, change)


def _attempt(desk: Desk, op: str, elevation: Elevation) -> Attempt:
    credential = Credential(
        id="", tenant=elevation.tenant, principal=CLOCK, role=Role.OPERATOR, scope=None, created_at=0, created_by="",
        expires_at=0,
    )  # fmt: skip
    attempt = Attempt(desk, op, Caller(credential, Standing()), Peer(""), lambda _attempt: None)
    attempt.detail = {"elevation": elevation.id, "principal": elevation.principal, "role": elevation.role}
    return attempt


def _do(desk: Desk, attempt: Attempt, change: Callable[[Connection], Answer]) -> None:
    attempt.change_fn, attempt.changes = change, True
    desk.enqueue(attempt)

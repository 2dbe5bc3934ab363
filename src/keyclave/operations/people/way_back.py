"""Whoever takes somebody's standing away leaves enough people to give it again: else no policy changes and nobody comes in.

Asked inside the transaction that takes it away, before and after. What closes the way back is refused with advice; somebody whose
account is in the wrong hands must be stopped all the same, so who says `anyway` is obeyed, and the event says so as an alarm.
A way that was closed before, as in a new house where nobody has enrolled yet, keeps nobody from anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from keyclave.core.errors import Refused
from keyclave.identity.roles import Role
from keyclave.operations.policy.standings import holders_of
from keyclave.policy.lockout import way_back

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk
    from keyclave.store.access.people import Person

T = TypeVar("T")
KEEPERS = (Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR)


def taking(desk: Desk, transaction: Connection, attempt: Attempt, person: Person, take: Callable[[], T], *, anyway: bool) -> T:
    """Do `take`, which takes something from `person`; refuse it where it closes the way back, unless `anyway` is said."""
    if person.role not in KEEPERS or _closed(desk, transaction, attempt):
        return take()
    answer = take()
    closed = _closed(desk, transaction, attempt)
    if closed and not anyway:
        raise Refused(
            "too few people would be left to approve anything, and nobody could be let in again",
            f"{closed}; first have another person enrol, or say `anyway` (`--anyway`) where an account is in the wrong hands",
        )
    if closed:
        attempt.detail = dict(sorted({**(attempt.detail or {}), "alarm": "way-back"}.items()))
    return answer


def _closed(desk: Desk, transaction: Connection, attempt: Attempt) -> str:
    tenant = attempt.caller.tenant
    return way_back(desk.access.revisions.of(tenant), tenant, holders_of(transaction, tenant, attempt.at))

"""alarm-list, alarm-acknowledge, and how alarms are raised: a row for every custodian and auditor, with the event, or neither."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import to_text
from keyclave.core.errors import Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.identity.elevation import Alarm, Elevation
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Empty
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import elevations as rows


class AlarmView(Answer, kw_only=True):
    """`kind`: break-glass or review-overdue; `principal`: who broke the glass."""

    id: str
    kind: str
    elevation: str
    principal: str
    reason: str
    raised_at: str
    review_due_at: str | None
    acknowledged_at: str | None


class AlarmQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`all`: those that were acknowledged too."""

    all: bool = False


class AlarmList(Answer, kw_only=True):
    """One's own alarms, newest first, a thousand at most."""

    alarms: list[AlarmView]


def alarm_keepers(desk: Desk, transaction: Connection, elevation: Elevation, kind: str, at: int) -> int:
    """Raise an alarm with every custodian and auditor of the tenant; return how many those are."""
    recipients = rows.keepers(transaction, elevation.tenant, at)
    raised = [
        Alarm(
            id=to_id("alm", desk.module.random(RAW)),
            tenant=elevation.tenant,
            recipient=recipient,
            kind=kind,
            elevation=elevation.id,
            raised_at=at,
        )
        for recipient in recipients
    ]
    rows.raise_alarms(transaction, raised)
    return len(raised)


def list_alarms(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: AlarmQuery) -> AlarmList:
    """List one's own alarms."""
    caller = attempt.caller

    def read(conn: Connection) -> list[AlarmView]:
        found = rows.list_alarms(conn, caller.tenant, caller.principal, everything=query.all, limit=limits.PAGE)
        return [_view(conn, alarm) for alarm in found]

    return AlarmList(alarms=desk.store.read(read))


def acknowledge(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> Callable[[Connection], AlarmView]:
    """Say that one has seen an alarm. It does not review anything."""
    caller, ref = attempt.caller, attempt.ref
    attempt.detail = {"alarm": ref} if ref.startswith("alm_") and len(ref) < limits.NAME else None

    def change(transaction: Connection) -> AlarmView:
        alarm = rows.acknowledge_alarm(transaction, caller.tenant, caller.principal, ref, attempt.at)
        if alarm is None:
            raise Unknown("no such alarm", "see `keyclave alarm list`")
        return _view(transaction, alarm)

    return change


def _view(conn: Connection, alarm: Alarm) -> AlarmView:
    elevation = rows.read_elevation(conn, alarm.tenant, alarm.elevation)
    due = None if elevation is None or elevation.review_due_at is None else to_text(elevation.review_due_at)
    return AlarmView(
        id=alarm.id,
        kind=alarm.kind,
        elevation=alarm.elevation,
        principal="" if elevation is None else elevation.principal,
        reason="" if elevation is None else elevation.reason,
        raised_at=to_text(alarm.raised_at),
        review_due_at=due,
        acknowledged_at=None if alarm.acknowledged_at is None else to_text(alarm.acknowledged_at),
    )

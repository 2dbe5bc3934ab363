"""How eligibilities and elevations are shown."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.core.clock import to_text
from keyclave.identity.elevation import BREAK_GLASS, Elevation, Eligibility
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import elevations as rows


class EligibilityView(Answer, kw_only=True):
    """Who may take on which role until when. `keys`, `operations` and `reference` (must be given) are of break-glass."""

    id: str
    principal: str
    role: str
    keys: list[str]
    operations: list[str]
    reference: bool
    created_at: str
    created_by: str
    expires_at: str
    revoked_at: str | None
    revoked_by: str | None


class ElevationView(Answer, kw_only=True):
    """A role that was taken on. `status`: running, ended, to-review, overdue or reviewed; `seconds_left` while it runs."""

    id: str
    principal: str
    role: str
    status: str
    reason: str
    started_at: str
    ends_at: str
    seconds_left: int
    ended_at: str | None
    ended_by: str | None
    keys: list[str]
    operations: list[str]
    review_due_at: str | None
    reviewed_at: str | None
    reviewed_by: str | None
    verdict: str | None
    notes: str | None


class PageQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100


class ElevationPage(Answer, kw_only=True):
    """Newest first; `next` is the cursor of the following page, or null at the end."""

    elevations: list[ElevationView]
    next: str | None


def list_elevations(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: PageQuery) -> ElevationPage:
    """List elevations: one's own, or, for those who watch over the tenant, everybody's."""
    caller = attempt.caller
    watches = caller.role in (Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR)
    whose = "" if watches else caller.principal
    if watches:
        desk.access.check_others(attempt)
    found = desk.store.read(
        lambda conn: rows.list_elevations(conn, caller.tenant, query.cursor, query.limit + 1, principal=whose)
    )
    page = found[: query.limit]
    shown = [elevation_view(elevation, attempt.at) for elevation in page]
    return ElevationPage(elevations=shown, next=page[-1].id if len(found) > query.limit else None)


def eligibility_view(eligibility: Eligibility) -> EligibilityView:
    """Return what is shown of an eligibility."""
    reach = eligibility.reach
    return EligibilityView(
        id=eligibility.id,
        principal=eligibility.principal,
        role=eligibility.role,
        keys=[] if reach is None else list(reach.keys),
        operations=[] if reach is None else list(reach.operations),
        reference=reach is not None and eligibility.reference,
        created_at=to_text(eligibility.created_at),
        created_by=eligibility.created_by,
        expires_at=to_text(eligibility.expires_at),
        revoked_at=_time(eligibility.revoked_at),
        revoked_by=eligibility.revoked_by or None,
    )


def elevation_view(elevation: Elevation, now: int) -> ElevationView:
    """Return what is shown of an elevation at a time."""
    reach = elevation.reach
    return ElevationView(
        id=elevation.id,
        principal=elevation.principal,
        role=elevation.role,
        status=_status(elevation, now),
        reason=elevation.reason,
        started_at=to_text(elevation.started_at),
        ends_at=to_text(elevation.ends_at),
        seconds_left=-(-(elevation.ends_at - now) // 1_000_000) if elevation.live(now) else 0,
        ended_at=_time(elevation.ended_at),
        ended_by=elevation.ended_by or None,
        keys=[] if reach is None else list(reach.keys),
        operations=[] if reach is None else list(reach.operations),
        review_due_at=_time(elevation.review_due_at),
        reviewed_at=_time(elevation.reviewed_at),
        reviewed_by=elevation.reviewed_by or None,
        verdict=elevation.verdict or None,
        notes=elevation.notes or None,
    )


def _status(elevation: Elevation, now: int) -> str:
    if elevation.live(now):
        return "running"
    if elevation.role != BREAK_GLASS:
        return "ended"
    if elevation.reviewed_at is not None:
        return "reviewed"
    return "overdue" if elevation.review_due_at is not None and now >= elevation.review_due_at else "to-review"


def _time(at: int | None) -> str | None:
    return None if at is None else to_text(at)

"""elevation-end and break-glass-review: ending early, and the judgement of somebody else afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.errors import Unknown, WrongState
from keyclave.identity.elevation import BREAK_GLASS, Elevation
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.elevation.view import ElevationView, elevation_view
from keyclave.operations.forms import Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import elevations as rows


class EndElevationRequest(Request, kw_only=True):
    """Why."""

    reason: Reason = ""


class ReviewRequest(Request, kw_only=True):
    """What the reviewer found."""

    verdict: Literal["justified", "unjustified"]
    notes: Annotated[str, Meta(min_length=3, max_length=limits.REASON, pattern=limits.PRINTABLE)]


def end(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EndElevationRequest
) -> Callable[[Connection], ElevationView]:
    """End an elevation early: one's own, or, for whoever watches over the tenant, anybody's. A second time is no error."""
    caller, ref = attempt.caller, attempt.ref
    found = _find(desk, attempt, ref)
    if found.principal != caller.principal:  # to end somebody's emergency takes as much as any other act of the duty
        desk.access.check_others(attempt)
    attempt.reason, attempt.touches = request.reason, (found.credential,)
    attempt.detail = {"elevation": ref, "principal": found.principal, "role": found.role}

    def change(transaction: Connection) -> ElevationView:
        rows.end_elevations(transaction, [ref], attempt.at, caller.principal)
        now = rows.read_elevation(transaction, caller.tenant, ref)
        return elevation_view(found if now is None else now, attempt.at)

    return change


def review(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: ReviewRequest) -> Callable[[Connection], ElevationView]:
    """Say whether a break-glass was justified. Only then may the same person break the glass again."""
    caller, ref = attempt.caller, attempt.ref
    found = _find(desk, attempt, ref)
    if found.role != BREAK_GLASS:
        raise WrongState(f"{ref} is no break-glass", "only those are reviewed")
    if found.live(attempt.at):
        raise WrongState(f"{ref} still runs, and its uses with it", "end it first: `keyclave elevation end`")
    attempt.reason = request.notes
    attempt.detail = {"elevation": ref, "principal": found.principal, "verdict": request.verdict}

    def change(transaction: Connection) -> ElevationView:
        if not rows.review_elevation(transaction, ref, attempt.at, caller.principal, request.verdict, request.notes):
            raise WrongState(f"{ref} is reviewed already", "see `keyclave elevation list`")
        done = {"reviewed_at": attempt.at, "reviewed_by": caller.principal, "verdict": request.verdict, "notes": request.notes}
        return elevation_view(msgspec.structs.replace(found, **done), attempt.at)

    return change


def _find(desk: Desk, attempt: Attempt, ref: str) -> Elevation:
    """Return the elevation of that id, if the caller may know of it."""
    caller = attempt.caller
    found = desk.store.read(lambda conn: rows.read_elevation(conn, caller.tenant, ref))
    watches = caller.role in (Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR)
    if found is None or not (watches or found.principal == caller.principal):
        raise Unknown("no such elevation", "see `keyclave elevation list`")
    return found

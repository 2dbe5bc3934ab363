"""elevate: an eligible person takes on a role, with a reason, for minutes. It belongs to their session and ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import ApprovalRequired, AssuranceRequired, Malformed, Refused, StepUpRequired
from keyclave.core.ids import RAW, to_id
from keyclave.identity.elevation import BREAK_GLASS, Elevation
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.elevation.separation import check_separation, duty_of
from keyclave.operations.elevation.view import ElevationView, elevation_view
from keyclave.operations.forms import Request
from keyclave.operations.keyring import LoadedKey
from keyclave.policy.rules import Rules
from keyclave.store.access import elevations as rows

Why = Annotated[str, Meta(min_length=3, max_length=limits.REASON, pattern=limits.PRINTABLE)]


class ElevateRequest(Request, kw_only=True):
    """`minutes` omitted: as long as policy allows."""

    role: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Why
    minutes: Annotated[int, Meta(ge=1, le=720)] | None = None


def elevate(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: ElevateRequest
) -> Callable[[Connection], ElevationView]:
    """Take on a role one is eligible for."""
    rules = desk.access.revisions.of(attempt.caller.tenant).rules
    if needs_approval(rules, request.role):
        raise ApprovalRequired(
            f"taking on {request.role} waits for the approval of others",
            "ask for it: `keyclave approval request elevate-approved`, or POST /v1/approvals; then execute it",
        )
    return _elevate(desk, attempt, rules, request)


def elevate_approved(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: ElevateRequest
) -> Callable[[Connection], ElevationView]:
    """Take on a role one is eligible for, with the approval of others. Where no rule says whose, it is refused."""
    rules = desk.access.revisions.of(attempt.caller.tenant).rules
    if attempt.decision is None or attempt.decision.approval is None or not (attempt.approval or attempt.dry_run):
        hint = "whoever keeps the policy lists elevate-approved among what is sensitive"
        raise Refused("no rule says who approves this, so nobody can", hint)
    return _elevate(desk, attempt, rules, request)


def needs_approval(rules: Rules, role: str) -> bool:
    """Tell whether a role, one it is nested in, or its duty is taken on only with the approval of others."""
    whole = rules.ancestors(role) | ({rules.roles[role].duty.value} if role in rules.roles else set())
    return not whole.isdisjoint(rules.elevation.approval_roles)


def _elevate(desk: Desk, attempt: Attempt, rules: Rules, request: ElevateRequest) -> Callable[[Connection], ElevationView]:
    caller = attempt.caller
    if request.role == BREAK_GLASS:
        raise Malformed("break-glass is not taken on like this", "use `keyclave break-glass`: it asks for a reference")
    duty = duty_of(rules, request.role)
    check_presence(attempt, rules, duty, rules.elevation.fresh_minutes)
    if caller.standing.elevation:
        raise Refused("an elevation runs already", "end it first: `keyclave elevation end`")
    minutes = rules.elevation.max_minutes if request.minutes is None else request.minutes
    if minutes > rules.elevation.max_minutes:
        raise Refused(
            f"policy allows {rules.elevation.max_minutes} minutes at most", "ask for fewer; elevate again when they end"
        )
    elevation_id = to_id("elv", desk.module.random(RAW))
    attempt.reason, attempt.touches = request.reason, (caller.id,)
    attempt.detail = {"elevation": elevation_id, "minutes": minutes, "role": request.role}

    def change(transaction: Connection) -> ElevationView:
        eligible = rows.eligibilities_of(transaction, caller.tenant, caller.principal, attempt.at)
        by = next((each for each in eligible if each.role == request.role), None)
        if by is None:
            raise not_eligible(request.role)
        check_separation(desk, transaction, caller.tenant, caller.principal, [request.role], attempt.at)
        elevation = Elevation(
            id=elevation_id,
            tenant=caller.tenant,
            principal=caller.principal,
            credential=caller.id,
            role=request.role,
            duty=duty.value,
            eligibility=by.id,
            reason=request.reason,
            started_at=attempt.at,
            ends_at=min(attempt.at + minutes * 60 * MICROSECONDS, by.expires_at),
        )
        begin(transaction, elevation)
        return elevation_view(elevation, attempt.at)

    return change


def check_presence(attempt: Attempt, rules: Rules, duty: Role, fresh_minutes: int) -> None:
    """Refuse whoever is not known surely enough for the duty they are about to take on."""
    standing, needed = attempt.caller.standing, rules.assurance.of(duty)
    if not standing.person:
        raise Refused("roles are taken on by people", "log in as a person: `keyclave login`")
    if standing.aal < needed:
        raise AssuranceRequired(
            f"{duty.value} asks for assurance level {needed}, and this credential gives {standing.aal}",
            "log in with a passkey: `keyclave login`",
        )
    if fresh_minutes and attempt.at - standing.stepped_up_at > fresh_minutes * 60 * MICROSECONDS:
        raise StepUpRequired(
            f"taking on a role asks for a proof of presence no older than {fresh_minutes} minutes",
            "confirm with the passkey again: `keyclave login --again`, or on the page where it is asked",
        )


def begin(transaction: Connection, elevation: Elevation) -> None:
    """Keep a new elevation in place of one of the same credential whose time is over."""
    late = [each.id for each in rows.running(transaction, credential=elevation.credential) if not each.live(elevation.started_at)]
    rows.end_elevations(transaction, late, elevation.started_at, CLOCK)
    rows.insert_elevation(transaction, elevation)


def not_eligible(role: str) -> Refused:
    """Return the answer to whoever takes on what they are not eligible for, or that does not exist."""
    return Refused(f"you are not eligible for {role}", "custodians make people eligible: `keyclave eligibility create`")


CLOCK = "clock"
"""Who ends what ends by itself."""

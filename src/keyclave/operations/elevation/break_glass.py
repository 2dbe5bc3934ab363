"""break-glass: in an emergency an eligible person reads what they otherwise may not, at once, seen by everybody who watches.

It asks for nobody's approval, and for a reason and the patient or encounter. The reference is kept and recorded only as keyed
hashes; while the glass is broken, an encryption context must hold the reference to be opened. Every custodian and auditor is
alarmed in the same transaction, and nothing more is opened this way by the same person until somebody else has reviewed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Malformed, Refused
from keyclave.core.ids import RAW, to_id
from keyclave.identity.elevation import BREAK_GLASS, Elevation, Eligibility, Reach
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.elevation.alarms import alarm_keepers
from keyclave.operations.elevation.elevate import Why, begin, check_presence, not_eligible
from keyclave.operations.elevation.sealed import opened, tag_of
from keyclave.operations.elevation.separation import check_separation
from keyclave.operations.elevation.view import ElevationView, elevation_view
from keyclave.operations.forms import Request
from keyclave.operations.keyring import LoadedKey
from keyclave.policy.rules import Rules
from keyclave.store.access import elevations as rows


class BreakGlassRequest(Request, kw_only=True):
    """`reference`: the patient or encounter, exactly as the encryption contexts of its records hold it."""

    reason: Why
    reference: Annotated[str, Meta(max_length=limits.CONTEXT_VALUE, pattern=limits.PRINTABLE)] = ""
    minutes: Annotated[int, Meta(ge=1, le=240)] | None = None


def break_glass(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: BreakGlassRequest
) -> Callable[[Connection], ElevationView]:
    """Break the glass."""
    caller = attempt.caller
    rules = desk.access.revisions.of(caller.tenant).rules
    check_presence(attempt, rules, Role.BREAK_GLASS, 0)
    most = rules.break_glass.minutes
    minutes = most if request.minutes is None else request.minutes
    if minutes > most:
        raise Refused(f"policy allows {most} minutes at most", "ask for fewer")
    by = _eligibility(desk, attempt)
    if by.reference and not request.reference:
        raise Malformed("break-glass needs the patient or encounter", "give it with --reference, as its records name it")
    attempt.reason = request.reason
    tags = reference_tags(desk, caller.tenant, rules, request.reference)
    attempt.context = {name: [tag] for name, tag in sorted(tags.items())} or None
    elevation = _elevation(desk, attempt, by, tags, minutes, rules)
    attempt.touches = (caller.id,)
    attempt.detail = {"elevation": elevation.id, "minutes": minutes}

    def change(transaction: Connection) -> ElevationView:
        current = rows.read_eligibility(transaction, caller.tenant, by.id)
        if current is None or not current.live(attempt.at):
            raise not_eligible(BREAK_GLASS)
        waiting = rows.unreviewed(transaction, caller.tenant, caller.principal)
        if waiting is not None:
            raise Refused(
                f"your last break-glass, {waiting.id}, waits for its review", "ask a custodian or auditor: `keyclave review`"
            )
        check_separation(desk, transaction, caller.tenant, caller.principal, [BREAK_GLASS], attempt.at)
        running = [each.id for each in rows.running(transaction, credential=caller.id)]
        rows.end_elevations(transaction, running, attempt.at, caller.principal)
        begin(transaction, elevation)
        alarm_keepers(desk, transaction, elevation, "break-glass", attempt.at)
        return elevation_view(elevation, attempt.at)

    return change


def _elevation(desk: Desk, attempt: Attempt, by: Eligibility, tags: dict[str, str], minutes: int, rules: Rules) -> Elevation:
    if by.reach is None:
        raise not_eligible(BREAK_GLASS)
    ends = min(attempt.at + minutes * 60 * MICROSECONDS, by.expires_at)
    reach: Reach = msgspec.structs.replace(by.reach, tags=tags)
    return Elevation(
        id=to_id("elv", desk.module.random(RAW)),
        tenant=attempt.caller.tenant,
        principal=attempt.caller.principal,
        credential=attempt.caller.id,
        role=BREAK_GLASS,
        duty=Role.BREAK_GLASS.value,
        eligibility=by.id,
        reason=attempt.reason,
        reach=reach,
        started_at=attempt.at,
        ends_at=ends,
        review_due_at=ends + rules.break_glass.review_hours * 3600 * MICROSECONDS,
    )


def reference_tags(desk: Desk, tenant: str, rules: Rules, reference: str) -> dict[str, str]:
    """Return the keyed hashes of a reference under each name of the encryption context that may hold it."""
    if not reference:
        return {}
    return {name: desk.contexts.hashed(tenant, name, reference) for name in rules.break_glass.context_names}


def _eligibility(desk: Desk, attempt: Attempt) -> Eligibility:
    """Return the caller's eligibility, opened. The hash finds it, the sealed name confirms it."""
    tenant, principal = attempt.caller.tenant, attempt.caller.principal
    tag = tag_of(desk, tenant, principal)
    for found in desk.store.read(lambda conn: rows.sealed_of(conn, tenant, tag, attempt.at)):
        eligibility = opened(desk, found.eligibility, found.sealed)
        if eligibility.principal == principal:
            return eligibility
    raise not_eligible(BREAK_GLASS)

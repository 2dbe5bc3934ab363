"""eligibility-create, -list, -revoke: who may take on which role. Giving one is a grant of privilege, and waits for approval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.identity.elevation import BREAK_GLASS, Eligibility, Reach
from keyclave.identity.roles import Role
from keyclave.identity.scope import KeyPattern, Scope
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.elevation.sealed import opened, seal, tag_of
from keyclave.operations.elevation.separation import check_separation, duty_of
from keyclave.operations.elevation.view import EligibilityView, PageQuery, eligibility_view
from keyclave.operations.forms import Answer, Name, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.policy.duties import GLASS_USES
from keyclave.store.access import elevations as rows

LONGEST_DAYS = 366


class EligibilityRequest(Request, kw_only=True):
    """`keys`, `operations` and `reference` are of break-glass: what it reaches, whether a patient or encounter must be named."""

    principal: Name
    role: Annotated[str, Meta(min_length=1, max_length=64)]
    days: Annotated[int, Meta(ge=1, le=LONGEST_DAYS)] = 90
    keys: Annotated[tuple[KeyPattern, ...], Meta(max_length=128)] = ()
    operations: Annotated[tuple[Annotated[str, Meta(max_length=40)], ...], Meta(max_length=16)] = ("decrypt", "unwrap")
    reference: bool = True
    reason: Reason = ""


class EligibilityPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    eligibilities: list[EligibilityView]
    next: str | None


class RevokeRequest(Request, kw_only=True):
    """Why."""

    reason: Reason = ""


def acts_as(_request: EligibilityRequest) -> str:
    """Return what giving an eligibility is to policy."""
    return "privilege-grant"


def create(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EligibilityRequest
) -> Callable[[Connection], EligibilityView]:
    """Let a person take on a role for a while, whenever they need it."""
    caller = attempt.caller
    rules = desk.access.revisions.of(caller.tenant).rules
    duty_of(rules, request.role)
    glass = request.role == BREAK_GLASS
    eligibility = Eligibility(
        id=to_id("elg", desk.module.random(RAW)),
        tenant=caller.tenant,
        principal=request.principal,
        role=request.role,
        created_at=attempt.at,
        created_by=caller.principal,
        expires_at=attempt.at + request.days * 86_400 * MICROSECONDS,
        reach=_reach(request) if glass else None,
        reference=request.reference,
    )
    tag = tag_of(desk, caller.tenant, request.principal) if glass else None
    sealed = seal(desk, eligibility) if glass else None
    attempt.detail = {"eligibility": eligibility.id, "role": request.role}
    if not glass:  # the record does not tell who may break the glass
        attempt.detail = {"eligibility": eligibility.id, "principal": request.principal, "role": request.role}
    attempt.reason = request.reason

    def change(transaction: Connection) -> EligibilityView:
        check_separation(desk, transaction, caller.tenant, request.principal, [request.role], attempt.at)
        rows.insert_eligibility(transaction, eligibility, tag, sealed)
        return eligibility_view(eligibility)

    return change


def _reach(request: EligibilityRequest) -> Reach:
    Scope(operations=request.operations, keys=request.keys).check(GLASS_USES)
    return Reach(keys=tuple(sorted(set(request.keys))), operations=tuple(sorted(set(request.operations))))


def list_eligibilities(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: PageQuery) -> EligibilityPage:
    """List eligibilities; those for break-glass are shown to custodians and auditors alone."""
    caller = attempt.caller
    found = desk.store.read(lambda conn: rows.list_eligibilities(conn, caller.tenant, query.cursor, query.limit + 1))
    page = found[: query.limit]
    trusted = caller.role in (Role.CUSTODIAN, Role.AUDITOR)
    shown = [
        eligibility_view(eligibility if sealed is None else opened(desk, eligibility, sealed))
        for eligibility, sealed in page
        if sealed is None or trusted
    ]
    return EligibilityPage(eligibilities=shown, next=page[-1][0].id if len(found) > query.limit else None)


def revoke(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: RevokeRequest
) -> Callable[[Connection], EligibilityView]:
    """Take an eligibility away; what was taken on by it ends at once."""
    caller, ref = attempt.caller, attempt.ref
    desk.store.flush()  # an elevation that waits for its commit is found too
    found, running = desk.store.read(
        lambda conn: (rows.read_eligibility(conn, caller.tenant, ref), rows.running(conn, eligibility=ref))
    )
    if found is None or (found.role == BREAK_GLASS and caller.role is Role.OPERATOR):
        raise Unknown("no such eligibility", "see `keyclave eligibility list`")
    attempt.reason, attempt.detail = request.reason, {"eligibility": ref, "role": found.role}
    attempt.touches = tuple(elevation.credential for elevation in running)

    def change(transaction: Connection) -> EligibilityView:
        ending = rows.running(transaction, eligibility=ref)
        attempt.drops = tuple(elevation.credential for elevation in ending)
        rows.end_elevations(transaction, [elevation.id for elevation in ending], attempt.at, caller.principal)
        rows.revoke_eligibility(transaction, ref, attempt.at, caller.principal)
        return eligibility_view(msgspec.structs.replace(found, revoked_at=attempt.at, revoked_by=caller.principal))

    return change

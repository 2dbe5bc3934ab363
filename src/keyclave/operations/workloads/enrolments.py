"""enrolment-create, -list, -revoke: tokens for a workload's first certificate. Short-lived, counted, for one name.

A token stands for one SPIFFE ID, or for those below one (`/*`), in the tenant's own trust domain, and only where an operator has
registered such a workload: a certificate that opens nothing would look like a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.core.errors import Malformed, Refused, Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.bearer import ENROLMENT, new_token
from keyclave.identity.spiffe import SCHEME, check_pattern
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.workloads.authority import new_authority
from keyclave.operations.workloads.recognition import patterns_over
from keyclave.operations.workloads.register import WorkloadName
from keyclave.store import tenant_rows
from keyclave.store.access import workloads as rows


class EnrolmentRequest(Request, kw_only=True):
    """For which name, how many certificates, and until when the token may be used."""

    name: WorkloadName
    uses: Annotated[int, Meta(ge=1, le=10_000)] = 1
    ttl_seconds: Annotated[int, Meta(ge=60, le=86_400)] = 3600


class EnrolmentView(Answer, kw_only=True):
    """An enrolment; the token is not in it."""

    id: str
    name: str
    uses: int
    used: int
    created_at: str
    created_by: str
    expires_at: str
    revoked_at: str | None


class NewEnrolment(EnrolmentView, kw_only=True):
    """The one time the token is shown."""

    token: str


class EnrolmentQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of enrolments."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100


class EnrolmentPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    enrolments: list[EnrolmentView]
    next: str | None


class EnrolmentRevoke(Request, kw_only=True):
    """Why."""

    reason: Reason = ""


def create(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EnrolmentRequest
) -> Callable[[Connection], NewEnrolment]:
    """Make an enrolment token; the tenant's authority is made with the first."""
    tenant = attempt.caller.tenant
    home = desk.store.read(lambda conn: tenant_rows.tenant_is_home(conn, tenant))
    domain = desk.workloads.domain_of(tenant, home=home)
    check_pattern(request.name)
    if not request.name.startswith(f"{SCHEME}{domain}/"):
        raise Malformed("certificates are issued for this tenant's own trust domain", f"begin the name with {SCHEME}{domain}/")
    registered = desk.store.read(lambda conn: rows.match_workload(conn, tenant, request.name, patterns_over(request.name)))
    if registered is None or registered.disabled_at is not None:
        raise Refused("no workload of this name is registered", "register it first: `keyclave workload register`")
    found = desk.store.read(lambda conn: rows.list_authorities(conn, tenant))
    first = None if found else new_authority(desk, attempt)
    token, digest = new_token(desk.module, ENROLMENT)
    enrolment = rows.Enrolment(
        id=to_id("enr", desk.module.random(RAW)),
        tenant=tenant,
        name=request.name,
        uses=request.uses,
        used=0,
        created_at=attempt.at,
        created_by=attempt.caller.principal,
        expires_at=attempt.at + request.ttl_seconds * MICROSECONDS,
    )
    attempt.detail = {"enrolment": enrolment.id, "name": enrolment.name, "uses": enrolment.uses}
    attempt.touches = (enrolment.id,) if first is None else (enrolment.id, first.id)

    def change(transaction: Connection) -> NewEnrolment:
        if first is not None:
            rows.insert_authority(transaction, first)
        rows.insert_enrolment(transaction, enrolment, digest)
        return NewEnrolment(token=token, **_fields(enrolment))

    return change


def list_enrolments(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: EnrolmentQuery) -> EnrolmentPage:
    """List enrolments in the order of their ids."""
    tenant, limit = attempt.caller.tenant, query.limit
    found = desk.store.read(lambda conn: rows.list_enrolments(conn, tenant, query.cursor, limit + 1))
    page = found[:limit]
    return EnrolmentPage(
        enrolments=[EnrolmentView(**_fields(one)) for one in page], next=page[-1].id if len(found) > limit else None
    )


def revoke(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EnrolmentRevoke
) -> Callable[[Connection], EnrolmentView]:
    """Revoke a token: when this is answered, no certificate is issued against it."""
    tenant, ref = attempt.caller.tenant, attempt.ref
    found = desk.store.read(lambda conn: rows.find_enrolment(conn, tenant, ref))
    if found is None:
        raise Unknown("no such enrolment", "see `keyclave workload enrolments`")
    at = found.revoked_at or attempt.at
    attempt.reason, attempt.touches = request.reason, (ref,)
    attempt.detail = {"enrolment": ref, "name": found.name}

    def change(transaction: Connection) -> EnrolmentView:
        rows.revoke_enrolment(transaction, ref, at)
        return EnrolmentView(**_fields(msgspec.structs.replace(found, revoked_at=at)))

    return change


def _fields(one: rows.Enrolment) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "uses": one.uses,
        "used": one.used,
        "created_at": to_text(one.created_at),
        "created_by": one.created_by,
        "expires_at": to_text(one.expires_at),
        "revoked_at": None if one.revoked_at is None else to_text(one.revoked_at),
    }

"""credential-issue, -list, -revoke and whoami: bearer credentials, random, stored hashed, expiring, scoped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.core.errors import Malformed, Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.bearer import new_token
from keyclave.identity.caller import Credential
from keyclave.identity.elevation import Elevation
from keyclave.identity.names import check_local
from keyclave.identity.roles import Role, check_assignment
from keyclave.identity.scope import Scope
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.elevation.separation import check_first_duty
from keyclave.operations.forms import Answer, Name, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.policy.duties import SCOPED, check_issue
from keyclave.store.access import credentials, elevations

_DAY = 86_400
LONGEST = {
    Role.APPLICATION: 90 * _DAY,
    Role.CUSTODIAN: 30 * _DAY,
    Role.OPERATOR: 30 * _DAY,
    Role.AUDITOR: 30 * _DAY,
    Role.PERSON: 30 * _DAY,
}
"""Seconds that a credential may live, by role (R33)."""


class IssueRequest(Request, kw_only=True):
    """An application's credential needs a scope; a person's has none: the duties of the role are its scope."""

    principal: Name
    role: Role
    ttl_seconds: Annotated[int, Meta(ge=60, le=90 * _DAY)]
    scope: Scope | None = None


class CredentialView(Answer, kw_only=True):
    """A credential; the token is not in it."""

    id: str
    principal: str
    role: str
    scope: Scope | None
    created_at: str
    created_by: str
    expires_at: str
    revoked_at: str | None


class IssuedCredential(CredentialView, kw_only=True):
    """The one time the token is shown."""

    token: str


class CredentialQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of credentials."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100


class CredentialPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    credentials: list[CredentialView]
    next: str | None


class RevokeRequest(Request, kw_only=True):
    """Why."""

    reason: Reason = ""


class RunningElevation(msgspec.Struct, kw_only=True):
    """The role that the caller took on for a while, and the clock."""

    id: str
    role: str
    reason: str
    ends_at: str
    seconds_left: int


class WhoAmI(Answer, kw_only=True):
    """The caller, as the server knows them; `alarms`: how many they have not acknowledged."""

    principal: str
    role: str
    tenant: str
    credential: str
    expires_at: str
    scope: Scope | None
    aal: int
    how: str
    roles: list[str]
    stepped_up_at: str | None
    enrolling: bool
    elevation: RunningElevation | None = None
    alarms: int = 0


def issue(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: IssueRequest
) -> Callable[[Connection], IssuedCredential]:
    """Issue a credential to another principal."""
    role = request.role
    check_issue(attempt.caller, request.principal, role)
    check_local(request.principal)
    if role is Role.APPLICATION:
        if request.scope is None:
            raise Malformed("an application's credential needs a scope", "name its operations and keys")
        request.scope.check(SCOPED)
    elif request.scope is not None:
        raise Malformed(f"a {role.value}'s credential has no scope", "its duties are those of the role")
    if request.ttl_seconds > LONGEST[role]:
        raise Malformed(f"a {role.value}'s credential lives at most {LONGEST[role] // _DAY} days", "choose a shorter ttl_seconds")
    token, digest = new_token(desk.module)
    credential = Credential(
        id=to_id("crd", desk.module.random(RAW)),
        tenant=attempt.caller.tenant,
        principal=request.principal,
        role=role,
        scope=request.scope,
        created_at=attempt.at,
        created_by=attempt.caller.principal,
        expires_at=attempt.at + request.ttl_seconds * MICROSECONDS,
    )
    attempt.detail = {"credential": credential.id, "principal": credential.principal, "role": role.value}

    def change(transaction: Connection) -> IssuedCredential:
        held = credentials.read_role(transaction, credential.tenant, credential.principal)
        check_assignment(credential.principal, held, role)
        check_first_duty(desk, transaction, credential.tenant, credential.principal, role, ())
        credentials.insert_credential(transaction, credential, digest)
        return IssuedCredential(token=token, **shown(credential))

    return change


def issue_action(request: IssueRequest) -> str:
    """Return what issuing is to policy: giving a person a duty is a grant of privilege, a scope for an application is not."""
    return "credential-issue" if request.role is Role.APPLICATION else "privilege-grant"


def list_credentials(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: CredentialQuery) -> CredentialPage:
    """List credentials in the order of their ids."""
    tenant, limit = attempt.caller.tenant, query.limit
    found = desk.store.read(lambda conn: credentials.list_credentials(conn, tenant, query.cursor, limit + 1))
    page = found[:limit]
    return CredentialPage(
        credentials=[CredentialView(**shown(c)) for c in page], next=page[-1].id if len(found) > limit else None
    )


def revoke(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: RevokeRequest
) -> Callable[[Connection], CredentialView]:
    """Revoke: when this is answered, the token opens nothing. Operators and custodians revoke any; a second time is no error."""
    ref = attempt.ref
    found = desk.store.read(lambda conn: credentials.find_credential(conn, attempt.caller.tenant, ref))
    if found is None:
        raise Unknown("no such credential", "see `keyclave credential list`")
    attempt.touches, attempt.reason = (ref,), request.reason
    attempt.detail = {"credential": ref, "principal": found.principal}
    at = found.revoked_at or attempt.at

    def change(transaction: Connection) -> CredentialView:
        credentials.revoke_credential(transaction, ref, at)
        return CredentialView(**shown(msgspec.structs.replace(found, revoked_at=at)))

    return change


def whoami(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _query: None) -> WhoAmI:
    """Tell the caller who they are here."""
    c = attempt.caller

    def read(conn: Connection) -> tuple[Elevation | None, int]:
        elevation = elevations.live_elevation(conn, c.id, attempt.at)
        return elevation, elevations.count_alarms(conn, c.tenant, c.principal)

    elevation, alarms = desk.store.read(read)
    return WhoAmI(
        principal=c.principal,
        role=c.role.value,
        tenant=c.tenant,
        credential=c.id,
        expires_at=to_text(c.expires_at),
        scope=c.scope,
        aal=c.standing.aal,
        how=c.standing.how,
        roles=list(c.standing.roles),
        stepped_up_at=to_text(c.standing.stepped_up_at) if c.standing.stepped_up_at else None,
        enrolling=c.standing.enrolling,
        elevation=None if elevation is None else _running(elevation, attempt.at),
        alarms=alarms,
    )


def _running(elevation: Elevation, now: int) -> RunningElevation:
    left = -(-(elevation.ends_at - now) // MICROSECONDS)
    return RunningElevation(
        id=elevation.id, role=elevation.role, reason=elevation.reason, ends_at=to_text(elevation.ends_at), seconds_left=left
    )


def shown(c: Credential) -> dict[str, Any]:
    """Return a credential's fields as they are shown."""
    return {
        "id": c.id,
        "principal": c.principal,
        "role": c.role.value,
        "scope": c.scope,
        "created_at": to_text(c.created_at),
        "created_by": c.created_by,
        "expires_at": to_text(c.expires_at),
        "revoked_at": None if c.revoked_at is None else to_text(c.revoked_at),
    }

"""invitation-create, -list, -confirm, -revoke: two people let a third one in.

Who invites gets the token, once, to hand over; it opens nothing until somebody else has confirmed, unless the invitation
itself was done under an approval, which is a second person's already. Nobody invites themselves, and names are never used
again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.core.errors import Conflict, Malformed, Refused, Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.bearer import INVITATION, new_token
from keyclave.identity.names import check_local, kind_of
from keyclave.identity.roles import Role, check_assignment
from keyclave.operations.attempt import Attempt
from keyclave.operations.elevation.separation import check_first_duty, check_separation
from keyclave.operations.forms import Answer, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.role_rules import check_roles
from keyclave.store.access import credentials, invitations, people
from keyclave.store.access.invitations import Invitation

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

PersonName = Annotated[str, Meta(min_length=1, max_length=limits.NAME, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*$(?!\n)")]
RoleName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9._-]*$(?!\n)")]


class InviteRequest(Request, kw_only=True):
    """Whom, for which duty (`person`: none yet) and further roles of that duty, and for how many hours the invitation holds."""

    principal: PersonName
    role: Role
    roles: Annotated[tuple[RoleName, ...], Meta(max_length=16)] = ()
    hours: Annotated[int, Meta(ge=1, le=168)] = 24
    reason: Reason = ""


class InvitationView(Answer, kw_only=True):
    """An invitation; the token is not in it. `state`: waiting (for a second person), open, used, expired or revoked."""

    id: str
    principal: str
    role: str
    roles: list[str]
    invited_by: str
    invited_at: str
    expires_at: str
    confirmed_by: str | None
    state: str


class IssuedInvitation(InvitationView, kw_only=True):
    """The one time the token is shown."""

    token: str


class InvitationQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of invitations."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100


class InvitationPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    invitations: list[InvitationView]
    next: str | None


class ConfirmRequest(Request, kw_only=True):
    """Why."""

    reason: Reason = ""


def invite_action(request: InviteRequest) -> str:
    """Return what inviting is to policy: giving a duty or a role is a grant of privilege, letting a person in is not."""
    return "invitation-create" if request.role is Role.PERSON and not request.roles else "privilege-grant"


def invite(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: InviteRequest
) -> Callable[[Connection], IssuedInvitation]:
    """Invite a person, new or known: who lost every authenticator is let in again like this, for the duty they hold."""
    caller = attempt.caller
    _check(desk, attempt, request)
    token, digest = new_token(desk.module, INVITATION)
    invitation = Invitation(
        id=to_id("inv", desk.module.random(RAW)),
        tenant=caller.tenant,
        principal=request.principal,
        role=request.role,
        roles=tuple(sorted(set(request.roles))),
        invited_by=caller.principal,
        invited_at=attempt.at,
        expires_at=attempt.at + request.hours * 3600 * MICROSECONDS,
    )
    attempt.reason = request.reason
    attempt.detail = {"invitation": invitation.id, "principal": request.principal, "role": request.role.value}
    if invitation.roles:
        attempt.detail["roles"] = ",".join(invitation.roles)

    def change(transaction: Connection) -> IssuedInvitation:
        made = invitation
        decision = attempt.decision  # an approval that was only shown, where policy asks for none, was checked by nobody
        if attempt.approval and decision is not None and decision.approval is not None:
            made = msgspec.structs.replace(made, confirmed_by=attempt.approval, confirmed_at=attempt.at)
        held = credentials.read_role(transaction, made.tenant, made.principal)
        check_assignment(made.principal, held, made.role)
        check_first_duty(desk, transaction, made.tenant, made.principal, made.role, made.roles)
        if made.roles and held is not None:
            check_separation(desk, transaction, made.tenant, made.principal, made.roles, attempt.at)
        invitations.insert_invitation(transaction, made, digest)
        return IssuedInvitation(token=token, **_fields(made, attempt.at))

    return change


def _check(desk: Desk, attempt: Attempt, request: InviteRequest) -> None:
    if request.role is Role.APPLICATION:
        raise Malformed("applications are not invited", "issue a credential or an enrolment token for the workload")
    if kind_of(request.principal) != "oidc":  # whom another house vouches for is invited under the name that it gives
        check_local(request.principal)
    if request.roles:
        check_roles(desk, attempt.caller.tenant, request.role, frozenset(request.roles))
    known = desk.store.read(lambda conn: people.read_person(conn, attempt.caller.tenant, request.principal))
    if known is not None and (known.kind != "person" or known.disabled_at is not None):
        raise Conflict("this principal cannot be invited", "a workload is none, and who is disabled is enabled first")


def list_invitations(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: InvitationQuery) -> InvitationPage:
    """List invitations in the order of their ids."""
    limit, tenant = query.limit, attempt.caller.tenant
    found = desk.store.read(lambda conn: invitations.list_invitations(conn, tenant, query.cursor, limit + 1))
    page = [InvitationView(**_fields(one, attempt.at)) for one in found[:limit]]
    return InvitationPage(invitations=page, next=found[limit - 1].id if len(found) > limit else None)


def confirm(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: ConfirmRequest
) -> Callable[[Connection], InvitationView]:
    """Stand behind somebody else's invitation: from now on its token opens an enrolment."""
    caller, found = attempt.caller, _find(desk, attempt)
    attempt.reason, attempt.detail = request.reason, {"invitation": found.id, "principal": found.principal}

    def change(transaction: Connection) -> InvitationView:
        if attempt.at >= found.expires_at or not invitations.confirm_invitation(
            transaction, found.id, caller.principal, attempt.at
        ):
            raise Refused("the invitation waits for nobody", "see `keyclave person invitations`: it may be confirmed or over")
        now = msgspec.structs.replace(found, confirmed_by=caller.principal, confirmed_at=attempt.at)
        return InvitationView(**_fields(now, attempt.at))

    return change


def revoke(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: ConfirmRequest
) -> Callable[[Connection], InvitationView]:
    """Take an invitation back, before it is used."""
    found = _find(desk, attempt)
    attempt.reason, attempt.detail = request.reason, {"invitation": found.id, "principal": found.principal}

    def change(transaction: Connection) -> InvitationView:
        if not invitations.revoke_invitation(transaction, found.id, attempt.at):
            raise Refused("the invitation was used or revoked before", "disable the person, if they should not be in")
        return InvitationView(**_fields(msgspec.structs.replace(found, revoked_at=attempt.at), attempt.at))

    return change


def accept(desk: Desk, transaction: Connection, found: Invitation, at: int) -> None:
    """Make the invited principal known, with the duty it was invited for. A name that holds another duty is refused."""
    held = credentials.read_role(transaction, found.tenant, found.principal)
    check_assignment(found.principal, held, found.role)
    check_first_duty(desk, transaction, found.tenant, found.principal, found.role, found.roles)
    if held is None:
        credentials.insert_principal(transaction, found.tenant, found.principal, found.role, at)


def give_roles(desk: Desk, transaction: Connection, found: Invitation, at: int) -> None:
    """Give the further roles that an invitation promised, with its use, if they still go together with what the person holds."""
    if found.roles:
        check_roles(desk, found.tenant, found.role, frozenset(found.roles))
        check_separation(desk, transaction, found.tenant, found.principal, found.roles, at)
    held = {one.role for one in people.read_memberships(transaction, found.tenant, found.principal)}
    for role in found.roles:
        if role not in held:
            given = people.Membership(
                id=to_id("mem", desk.module.random(RAW)),
                tenant=found.tenant,
                principal=found.principal,
                role=role,
                given_by=found.invited_by,
                given_at=at,
            )
            people.insert_membership(transaction, given)


def admit_vouched(desk: Desk, transaction: Connection, tenant: str, principal: str, at: int) -> bool:
    """Let in whom another house vouches for (`oidc:…`): True where they are known, or an open invitation names them, which is
    used up.

    Whoever calls has verified the vouching. A disabled person is refused by `open_session`.
    """
    if people.read_person(transaction, tenant, principal) is not None:
        return True
    found = invitations.open_invitation_of(transaction, tenant, principal, at)
    if found is None or not invitations.use_invitation(transaction, found.id, at):
        return False
    accept(desk, transaction, found, at)
    give_roles(desk, transaction, found, at)
    return True


def _find(desk: Desk, attempt: Attempt) -> Invitation:
    found = desk.store.read(lambda conn: invitations.read_invitation(conn, attempt.caller.tenant, attempt.ref))
    if found is None:
        raise Unknown("no such invitation", "see `keyclave person invitations`")
    return found


def _fields(one: Invitation, now: int) -> dict[str, Any]:
    return {
        "id": one.id,
        "principal": one.principal,
        "role": one.role.value,
        "roles": list(one.roles),
        "invited_by": one.invited_by,
        "invited_at": to_text(one.invited_at),
        "expires_at": to_text(one.expires_at),
        "confirmed_by": one.confirmed_by,
        "state": one.state(now),
    }

"""authenticator-list and authenticator-revoke: what somebody proves themselves with, and the end of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.errors import AssuranceRequired, Refused, Unknown
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.enrolment import AuthenticatorView, view
from keyclave.operations.people.way_back import taking
from keyclave.store.access import people, sessions

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


class AuthenticatorQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Whose: one's own where it is empty."""

    principal: Annotated[str, Meta(max_length=limits.NAME)] = ""


class AuthenticatorPage(Answer, kw_only=True):
    """All of them, revoked ones too, oldest first. `recovery_codes` is how many are left."""

    authenticators: list[AuthenticatorView]
    recovery_codes: int


class RevokeAuthenticator(Request, kw_only=True):
    """Why. `anyway`: even where too few people are left to approve anything."""

    reason: Reason = ""
    anyway: bool = False


def list_authenticators(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: AuthenticatorQuery) -> AuthenticatorPage:
    """List one's own authenticators; custodians, operators and auditors may see anybody's."""
    caller = attempt.caller
    wanted = query.principal or caller.principal
    if wanted != caller.principal and caller.role not in (Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR):
        raise Refused("this shows one's own authenticators", "leave `principal` out")
    if wanted != caller.principal:
        desk.access.check_others(attempt)

    def read(conn: Connection) -> AuthenticatorPage:
        found = people.list_authenticators(conn, caller.tenant, wanted)
        codes = [one for one in found if one.kind == "recovery" and one.revoked_at is None]
        left = sum(people.count_recovery_codes(conn, one.id) for one in codes)
        return AuthenticatorPage(authenticators=[view(one) for one in found], recovery_codes=left)

    return desk.store.read(read)


def revoke(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: RevokeAuthenticator
) -> Callable[[Connection], AuthenticatorView]:
    """Revoke: one's own, or as a custodian anybody's. The sessions it opened end with it; what it signed stays signed."""
    caller, ref = attempt.caller, attempt.ref
    found = desk.store.read(lambda conn: people.read_authenticator(conn, caller.tenant, ref))
    if found is None or (found.principal != caller.principal and caller.role is not Role.CUSTODIAN):
        raise Unknown("no such authenticator", "see `keyclave authenticator list`")
    if found.principal != caller.principal:
        desk.access.check_others(attempt)
    elif caller.standing.aal < 2 and found.kind != "key":
        raise AssuranceRequired("revoking asks for assurance level 2", "log in with a passkey")
    attempt.touches, attempt.reason = (found.principal,), request.reason
    attempt.detail = {"authenticator": ref, "kind": found.kind, "principal": found.principal}

    def change(transaction: Connection) -> AuthenticatorView:
        person = people.read_person(transaction, found.tenant, found.principal)
        if person is None:
            raise Unknown("no such authenticator", "see `keyclave authenticator list`")

        def take() -> None:
            people.revoke_authenticator(transaction, ref, attempt.at, "revoked")

        taking(desk, transaction, attempt, person, take, anyway=request.anyway)
        sessions.revoke_sessions(transaction, found.tenant, found.principal, attempt.at, how=ref)
        now = people.read_authenticator(transaction, found.tenant, ref)
        return view(found if now is None else now)

    return change

"""grant-retire and grant-revoke: the grantee hands a grant back; whoever gave it, an operator or a custodian takes it away.

Every grant made from it ends with it. When this is answered, none of them permits anything: their grantees are looked up anew.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from keyclave.core.errors import Refused
from keyclave.identity.grants import Grant
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Reason, Request
from keyclave.operations.grants.view import GrantView, find, view
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import grants


class EndRequest(Request, kw_only=True):
    """Why."""

    reason: Reason = ""


def retire(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EndRequest) -> Callable[[Connection], GrantView]:
    """Hand a grant back: only its grantee does."""
    grant = find(desk, attempt)
    if grant.grantee != attempt.caller.principal:
        raise Refused(
            f"grant {grant.id} is held by somebody else", "only its grantee retires it; `keyclave grant revoke` ends it"
        )
    return _end(desk, attempt, grant, "retired", request.reason)


def revoke(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EndRequest) -> Callable[[Connection], GrantView]:
    """Take a grant away: whoever gave it, an operator or a custodian; a second time is no error."""
    grant, caller = find(desk, attempt), attempt.caller
    if caller.role not in (Role.CUSTODIAN, Role.OPERATOR) and grant.created_by != caller.principal:
        raise Refused(f"grant {grant.id} was given by somebody else", "a grantee hands it back with `keyclave grant retire`")
    return _end(desk, attempt, grant, "revoked", request.reason)


def _end(desk: Desk, attempt: Attempt, grant: Grant, how: str, reason: str) -> Callable[[Connection], GrantView]:
    desk.store.flush()  # grants that wait for their commit are found below it too
    chain = desk.store.read(lambda conn: grants.below(conn, grant.id))
    attempt.touches = tuple({grant.grantee, *(each.grantee for each in chain)})
    attempt.detail = {"ended": max(1, len(chain)), "grant": grant.id, "grantee": grant.grantee}
    attempt.reason = reason

    def change(transaction: Connection) -> GrantView:
        ending = grants.below(transaction, grant.id)
        attempt.drops = tuple({each.grantee for each in ending})
        grants.end_grants(transaction, [each.id for each in ending], how, attempt.at, attempt.caller.principal)
        now = grants.read_grant(transaction, grant.tenant, grant.id)
        return view(msgspec.structs.replace(grant) if now is None else now, attempt.at)

    return change

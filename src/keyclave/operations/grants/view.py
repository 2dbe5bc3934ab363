"""How a grant is shown, and the queries that find grants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.core.clock import to_text
from keyclave.core.errors import Unknown
from keyclave.identity.caller import Caller
from keyclave.identity.grants import Grant
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import grants

Find = Callable[[Desk, Attempt], Grant]


class GrantView(Answer, kw_only=True):
    """A grant. `remaining`: uses left, null where they are not counted. `status`: live, expired, used-up, retired or revoked."""

    id: str
    grantee: str
    status: str
    operations: list[str]
    keys: list[str]
    context: dict[str, list[str]]
    exact: bool
    purposes: list[str]
    networks: list[str]
    delegate: bool
    parent: str | None
    uses: int | None
    remaining: int | None
    created_at: str
    created_by: str
    expires_at: str
    ended_at: str | None
    ended_by: str | None


class GrantQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of grants: to `grantee`, or to anybody; `live` leaves out what has ended."""

    cursor: str = ""
    grantee: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100
    live: bool = False


class GrantPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    grants: list[GrantView]
    next: str | None


def list_grants(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: GrantQuery) -> GrantPage:
    """List grants in the order of their ids; an application sees those it gave or holds."""
    caller = attempt.caller
    asked: dict[str, Any] = {"party": _party(caller), "grantee": query.grantee, "now": attempt.at if query.live else None}
    found = desk.store.read(lambda conn: grants.list_grants(conn, caller.tenant, query.cursor, query.limit + 1, **asked))
    page = found[: query.limit]
    shown = [view(grant, attempt.at) for grant in page]
    return GrantPage(grants=shown, next=page[-1].id if len(found) > query.limit else None)


def read_grant(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _query: None) -> GrantView:
    """Describe one grant."""
    return view(find(desk, attempt), attempt.at)


def find(desk: Desk, attempt: Attempt) -> Grant:
    """Return the grant that the attempt names; one that is not for the caller to know looks like none."""
    caller, ref = attempt.caller, attempt.ref
    found = desk.store.read(lambda conn: grants.read_grant(conn, caller.tenant, ref))
    party = _party(caller)
    if found is None or (party and party not in (found.grantee, found.created_by)):
        raise Unknown("no such grant", "see `keyclave grant list`")
    return found


def _party(caller: Caller) -> str:
    """Return whose grants a caller may see: their own, or (empty) everybody's."""
    return "" if caller.role in (Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR) else caller.principal


def view(grant: Grant, now: int) -> GrantView:
    """Return what is shown of a grant at a time."""
    return GrantView(
        id=grant.id,
        grantee=grant.grantee,
        status=_status(grant, now),
        operations=list(grant.operations),
        keys=list(grant.keys),
        context={name: list(values) for name, values in sorted(grant.context.items())},
        exact=grant.exact,
        purposes=list(grant.purposes),
        networks=list(grant.networks),
        delegate=grant.delegate,
        parent=grant.parent or None,
        uses=grant.uses,
        remaining=grant.remaining,
        created_at=to_text(grant.created_at),
        created_by=grant.created_by,
        expires_at=to_text(grant.expires_at),
        ended_at=None if grant.ended_at is None else to_text(grant.ended_at),
        ended_by=grant.ended_by or None,
    )


def _status(grant: Grant, now: int) -> str:
    if grant.ended_at is not None:
        return grant.end
    if now >= grant.expires_at:
        return "expired"
    return "used-up" if grant.remaining == 0 else "live"

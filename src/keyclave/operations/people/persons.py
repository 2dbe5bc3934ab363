"""person-list, -read, -disable, -enable, -roles: who is here, and who no longer comes in.

Disabling is at once: when it is answered, no session or token of that person is taken any more. Nothing of them is deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import to_text
from keyclave.core.errors import Refused, Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.operations.attempt import Attempt
from keyclave.operations.elevation.separation import check_separation
from keyclave.operations.forms import Answer, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.invitations import RoleName
from keyclave.operations.people.role_rules import check_roles
from keyclave.operations.people.way_back import taking
from keyclave.store.access import people, sessions
from keyclave.store.access.people import Person

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


class PersonView(Answer, kw_only=True):
    """A person: duty, further roles, and what they have to prove themselves with, by kind and number."""

    principal: str
    role: str
    roles: list[str]
    created_at: str
    disabled_at: str | None
    authenticators: dict[str, int]


class PersonQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of people."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100


class PersonPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    people: list[PersonView]
    next: str | None


class StandingRequest(Request, kw_only=True):
    """Why."""

    reason: Reason = ""


class DisableRequest(StandingRequest, kw_only=True):
    """Why. `anyway`: even where too few people are left to approve anything."""

    anyway: bool = False


class RolesRequest(Request, kw_only=True):
    """Roles to give and to take away, beside the duty."""

    give: Annotated[tuple[RoleName, ...], Meta(max_length=16)] = ()
    take: Annotated[tuple[RoleName, ...], Meta(max_length=16)] = ()
    reason: Reason = ""


def list_people(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: PersonQuery) -> PersonPage:
    """List people by name."""
    limit, tenant = query.limit, attempt.caller.tenant

    def read(conn: Connection) -> PersonPage:
        found = people.list_people(conn, tenant, query.cursor, limit + 1)
        shown = [_view(conn, one) for one in found[:limit]]
        return PersonPage(people=shown, next=found[limit - 1].name if len(found) > limit else None)

    return desk.store.read(read)


def read_person(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _query: None) -> PersonView:
    """Describe a person."""
    found = _find(desk, attempt)
    return desk.store.read(lambda conn: _view(conn, found))


def disable(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: DisableRequest) -> Callable[[Connection], PersonView]:
    """Disable: every session ends, no credential or authenticator of theirs is taken until somebody enables them."""
    found = _find(desk, attempt)
    _prepare(attempt, found, request.reason)

    def change(transaction: Connection) -> PersonView:
        def take() -> None:
            people.set_disabled(transaction, found.tenant, found.name, found.disabled_at or attempt.at)

        taking(desk, transaction, attempt, found, take, anyway=request.anyway)
        sessions.revoke_sessions(transaction, found.tenant, found.name, attempt.at)
        return _view(transaction, msgspec.structs.replace(found, disabled_at=found.disabled_at or attempt.at))

    return change


def enable(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: StandingRequest) -> Callable[[Connection], PersonView]:
    """Enable: their authenticators count again. Sessions that ended stay ended."""
    found = _find(desk, attempt)
    _prepare(attempt, found, request.reason)

    def change(transaction: Connection) -> PersonView:
        people.set_disabled(transaction, found.tenant, found.name, None)
        return _view(transaction, msgspec.structs.replace(found, disabled_at=None))

    return change


def roles_action(request: RolesRequest) -> str:
    """Return what changing roles is to policy: giving one is a grant of privilege, taking one away is not."""
    return "privilege-grant" if request.give else "person-roles"


def change_roles(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: RolesRequest
) -> Callable[[Connection], PersonView]:
    """Give and take roles of the person's duty."""
    found = _find(desk, attempt)
    if not request.give and not request.take:
        raise Refused("there is nothing to change", "name roles to give or to take")
    _prepare(attempt, found, request.reason)
    assert attempt.detail is not None  # noqa: S101
    attempt.detail |= {"give": ",".join(sorted(request.give)), "take": ",".join(sorted(request.take))}
    attempt.detail = dict(sorted(attempt.detail.items()))

    def change(transaction: Connection) -> PersonView:
        def take() -> None:
            for role in request.take:
                people.end_membership(transaction, found.tenant, found.name, role, attempt.at)

        taking(desk, transaction, attempt, found, take, anyway=False)
        held = {one.role for one in people.read_memberships(transaction, found.tenant, found.name)}
        if request.give:
            check_roles(desk, found.tenant, found.role, frozenset(held | set(request.give)))
            check_separation(desk, transaction, found.tenant, found.name, request.give, attempt.at)
        for role in sorted(set(request.give) - held):
            given = people.Membership(
                id=to_id("mem", desk.module.random(RAW)),
                tenant=found.tenant,
                principal=found.name,
                role=role,
                given_by=attempt.caller.principal,
                given_at=attempt.at,
            )
            people.insert_membership(transaction, given)
        return _view(transaction, found)

    return change


def _prepare(attempt: Attempt, found: Person, reason: str) -> None:
    attempt.touches, attempt.reason = (found.name,), reason
    attempt.detail = {"principal": found.name}


def _find(desk: Desk, attempt: Attempt) -> Person:
    found = desk.store.read(lambda conn: people.read_person(conn, attempt.caller.tenant, attempt.ref))
    if found is None or found.kind != "person":
        raise Unknown("no such person", "see `keyclave person list`")
    return found


def _view(conn: Connection, one: Person) -> PersonView:
    counted: dict[str, int] = {}
    for authenticator in people.list_authenticators(conn, one.tenant, one.name):
        if authenticator.revoked_at is None:
            counted[authenticator.kind] = counted.get(authenticator.kind, 0) + 1
    return PersonView(
        principal=one.name,
        role=one.role.value,
        roles=[held.role for held in people.read_memberships(conn, one.tenant, one.name)],
        created_at=to_text(one.created_at),
        disabled_at=None if one.disabled_at is None else to_text(one.disabled_at),
        authenticators=counted,
    )

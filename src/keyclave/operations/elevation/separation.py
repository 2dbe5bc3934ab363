"""That two duties never meet in one person, over what they hold, what they may take on, and what they take on now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.errors import Malformed, SelfConflict, Unknown
from keyclave.identity.elevation import BREAK_GLASS
from keyclave.identity.roles import SHARE_HOLDER, Role
from keyclave.operations.elevation.sealed import tag_of
from keyclave.policy.rules import Rules, excluded
from keyclave.store.access import credentials, people
from keyclave.store.access import elevations as rows
from keyclave.store.access.shares import holds_share

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_DUTIES = frozenset(role.value for role in Role)


def duty_of(rules: Rules, role: str) -> Role:
    """Return the duty that a role belongs to; a role that does not exist, or that nobody takes on, is `Malformed`."""
    duty = Role(role) if role in _DUTIES else rules.roles[role].duty if role in rules.roles else None
    if duty in (None, Role.APPLICATION, Role.PERSON):
        known = sorted({*rules.roles, "custodian", "operator", "auditor", BREAK_GLASS})
        raise Malformed("nobody takes on a role of that name for a while", f"known: {', '.join(known)}")
    assert duty is not None  # noqa: S101 - for the type checker: None was refused
    return duty


def check_separation(desk: Desk, conn: Connection, tenant: str, principal: str, roles: Iterable[str], now: int) -> None:
    """Refuse `roles` to a person with whose duty, other roles or eligibilities they do not go together. Needs the root open."""
    duty = credentials.read_role(conn, tenant, principal)
    if duty is None:
        raise Unknown("nobody has this name", "invite them first, or correct the name")
    if duty is Role.APPLICATION:
        raise SelfConflict("this principal is an application", "roles are taken on by people; an application gets grants")
    whole = {duty.value, *roles}
    whole.update(held.role for held in people.read_memberships(conn, tenant, principal))
    whole.update(eligibility.role for eligibility in rows.eligibilities_of(conn, tenant, principal, now))
    if holds_share(conn, tenant, principal):
        whole.add(SHARE_HOLDER)
    if rows.sealed_of(conn, tenant, tag_of(desk, tenant, principal), now):
        whole.add(BREAK_GLASS)
    _refuse_clash(desk, tenant, principal, frozenset(whole))


def check_first_duty(desk: Desk, conn: Connection, tenant: str, principal: str, duty: Role, roles: Iterable[str]) -> None:
    """Refuse a duty, with roles of it, to a name that holds a share which a rule keeps apart from them.

    The ceremony names holders before they are let in, so a name that is nobody's yet can hold one.
    """
    if holds_share(conn, tenant, principal):
        _refuse_clash(desk, tenant, principal, frozenset((duty.value, *roles, SHARE_HOLDER)))


def _refuse_clash(desk: Desk, tenant: str, principal: str, roles: frozenset[str]) -> None:
    clash = excluded(desk.access.revisions.of(tenant).rules, roles)
    if clash is not None:
        raise SelfConflict(f"{principal} would hold {clash[0]} and {clash[1]}: {clash[2]}", "give one of them to another person")

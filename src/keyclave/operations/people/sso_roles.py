"""What groups at a provider give and take: roles of one's own duty, for as long as one is in the group.

They are memberships like others, given by the provider's name: the next login takes away those whose group is left. Where policy
maps groups to a duty itself, being in one of them is a condition of logging in with that duty, never a way to get it: duties come
by invitation, which two people stand behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.errors import KeyclaveError, Unauthenticated
from keyclave.core.ids import RAW, to_id
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.elevation.separation import check_separation
from keyclave.operations.people.role_rules import check_roles
from keyclave.policy.rules import SignOn
from keyclave.store.access import people
from keyclave.store.access.people import Membership, Person

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


def check_duty_group(rules: SignOn, roles: frozenset[str], duty: Role) -> None:
    """Refuse a login with a duty whose groups are named in policy, and have been left."""
    if duty.value in rules.groups.values() and duty.value not in roles:
        raise Unauthenticated("the login did not succeed", "ask who keeps the groups at your provider")


def follow_groups(
    desk: Desk, transaction: Connection, attempt: Attempt, person: Person, provider: str, roles: frozenset[str]
) -> None:
    """Make the memberships that this provider gave what its groups say now. Roles that do not go together are not given."""
    giver = f"oidc:{provider}"
    held = people.read_memberships(transaction, person.tenant, person.name)
    given = {one.role for one in held if one.given_by == giver}
    others = {one.role for one in held} - given
    rules = desk.access.revisions.of(person.tenant).rules
    wanted = {role for role in roles - others if role in rules.roles and rules.roles[role].duty is person.role}
    taken = given - wanted
    _take(transaction, attempt, person, taken)  # before the others are judged: whoever changed groups holds the old role no more
    if wanted and not _go_together(desk, transaction, attempt, person, wanted | others):
        _take(transaction, attempt, person, given & wanted)
        taken, wanted = given, set()
    for role in sorted(wanted - given):
        people.insert_membership(
            transaction,
            Membership(
                id=to_id("mem", desk.module.random(RAW)),
                tenant=person.tenant,
                principal=person.name,
                role=role,
                given_by=giver,
                given_at=attempt.at,
            ),
        )
    if wanted != given:
        attempt.drops = (*attempt.drops, person.name)  # other sessions of theirs stand anew
        changed = {"give": ",".join(sorted(wanted - given)), "take": ",".join(sorted(taken))}
        attempt.detail = {**(attempt.detail or {}), **{name: text for name, text in changed.items() if text}}


def _take(transaction: Connection, attempt: Attempt, person: Person, roles: set[str]) -> None:
    for role in sorted(roles):
        people.end_membership(transaction, person.tenant, person.name, role, attempt.at)


def _go_together(desk: Desk, transaction: Connection, attempt: Attempt, person: Person, roles: set[str]) -> bool:
    """Tell whether roles go together with each other and with what the person may take on; else say so in the event."""
    try:
        check_roles(desk, person.tenant, person.role, frozenset(roles))
        check_separation(desk, transaction, person.tenant, person.name, roles, attempt.at)
    except KeyclaveError as error:
        attempt.detail = {**(attempt.detail or {}), "not_given": error.code}
        return False
    return True

"""Which roles go together, as the policy in force says it, and who may not approve them: asked wherever a role is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.core.errors import Malformed, SelfConflict
from keyclave.identity.roles import Role
from keyclave.policy.rules import excluded
from keyclave.store.access import approvals

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk


def check_roles(desk: Desk, tenant: str, duty: Role, roles: frozenset[str]) -> None:
    """Refuse roles that policy does not define, that belong to another duty, or that exclude each other."""
    rules = desk.access.revisions.of(tenant).rules
    for role in sorted(roles):
        rule = rules.roles.get(role)
        if rule is None:
            raise Malformed("a role is named that policy does not define", "define it in rules.toml, or correct the name")
        if rule.duty is not duty:
            raise SelfConflict(f"the role {role!r} belongs to {rule.duty.value}s", f"a {duty.value} cannot hold it")
    apart = excluded(rules, roles | {duty.value})
    if apart is not None:
        raise SelfConflict(f"{apart[0]} and {apart[1]} exclude each other: {apart[2]}", "give one of them to another person")


def check_unbiased(conn: Connection, attempt: Attempt, principal: str) -> None:
    """Refuse a right for somebody who is among those that approved it: nobody raises themselves, by a signature neither."""
    if attempt.approval and principal in {one.approver for one in approvals.read_signatures(conn, attempt.approval)}:
        raise SelfConflict(f"{principal} approved what is given to them", "ask again, and have others approve it")

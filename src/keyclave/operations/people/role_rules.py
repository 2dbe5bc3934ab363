"""Which roles go together, as the policy in force says it: asked wherever a role is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.core.errors import Malformed, SelfConflict
from keyclave.identity.roles import Role
from keyclave.policy.rules import excluded

if TYPE_CHECKING:
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

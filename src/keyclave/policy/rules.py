"""Rules as data: the half of a policy bundle that is not Cedar (`rules.toml`). spec/policy.md is the law.

What stands here is read by the rooms that keep it: who must approve what, how sure of a person one must be, which duties exclude
each other, what networks are called, how fast, how long an elevation lasts. Unknown settings are refused, for a misspelt rule is
a rule that does not hold.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.identity.roles import Role
from keyclave.policy.apart import Apart
from keyclave.policy.classes import Class
from keyclave.policy.decision import ApprovalRule

Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9._-]*$(?!\n)")]
_Operation = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9-]*$(?!\n)")]
_Count = Annotated[int, Meta(ge=1, le=16)]
_Aal = Annotated[int, Meta(ge=1, le=3)]


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every rule refuses what it does not know."""


class RoleRule(_Rule, frozen=True):
    """A custom role: of one duty, perhaps nested in others (who holds it holds them too)."""

    duty: Role
    parents: Annotated[tuple[Word, ...], Meta(max_length=16)] = ()


class Sensitive(_Rule, frozen=True):
    """Operations, by name or by what they are sensitive for (`classes`), that wait for `count` approvers of `roles` within
    `hours`, and ask a proof of presence of their requester no older than `fresh_minutes` (0: none). `assurance`: of requester
    and approvers, where it is more than is asked in general. Once read, `operations` has those of the classes among them."""

    operations: Annotated[tuple[_Operation, ...], Meta(max_length=64)] = ()
    classes: Annotated[tuple[Class, ...], Meta(max_length=16)] = ()
    count: _Count = 1
    roles: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=16)] = ("custodian", "operator", "auditor")
    hours: Annotated[int, Meta(ge=1, le=720)] = 24
    fresh_minutes: Annotated[int, Meta(ge=0, le=60)] = 5
    assurance: _Aal = 1


class Assurance(_Rule, frozen=True):
    """The least assurance level (SP 800-63B-4) of who acts in a duty, and of who asks for or approves what is sensitive."""

    custodian: _Aal = 2
    operator: _Aal = 2
    auditor: _Aal = 2
    break_glass: _Aal = 2
    sensitive: _Aal = 2

    def of(self, role: Role) -> int:
        """Return the least level for a duty; workloads and people without a duty need none."""
        levels = {
            Role.CUSTODIAN: self.custodian,
            Role.OPERATOR: self.operator,
            Role.AUDITOR: self.auditor,
            Role.BREAK_GLASS: self.break_glass,
        }
        return levels.get(role, 1)


class Exclusive(_Rule, frozen=True):
    """Roles no two of which one person may hold, be eligible for or activate; and why, for whoever is refused. One of them may be
    `share-holder`: whoever holds a share of the root's recovery key."""

    roles: Annotated[tuple[Word, ...], Meta(min_length=2, max_length=16)]
    why: Annotated[str, Meta(max_length=256)] = ""


class Rate(_Rule, frozen=True):
    """`per_second` on average, `burst` at once, `concurrent` unanswered; 0 means no limit."""

    per_second: Annotated[float, Meta(ge=0, le=1e9)] = 0
    burst: Annotated[int, Meta(ge=0, le=10**9)] = 0
    concurrent: Annotated[int, Meta(ge=0, le=10**6)] = 0

    @property
    def bounds(self) -> bool:
        """Tell whether it limits anything."""
        return bool(self.per_second or self.concurrent)


class Limits(_Rule, frozen=True):
    """Rates of one principal, of the uses of one key, of a whole tenant. An item of a batch counts one."""

    principal: Rate = Rate(concurrent=1024)
    key: Rate = Rate()
    tenant: Rate = Rate()


class Elevation(_Rule, frozen=True):
    """Just-in-time roles: how long at most, how fresh the proof of presence (0: none is asked), for which roles another person
    must approve first."""

    max_minutes: Annotated[int, Meta(ge=1, le=720)] = 60
    fresh_minutes: Annotated[int, Meta(ge=0, le=60)] = 5
    approval_roles: Annotated[tuple[Word, ...], Meta(max_length=64)] = ()


class BreakGlass(_Rule, frozen=True):
    """Emergency use: how long, how soon it must be reviewed, and the names of the encryption context that hold the reference."""

    minutes: Annotated[int, Meta(ge=1, le=240)] = 30
    review_hours: Annotated[int, Meta(ge=1, le=168)] = 24
    context_names: Annotated[tuple[str, ...], Meta(max_length=8)] = ("patient", "encounter")


class SignOn(_Rule, frozen=True):
    """What an OIDC provider's claims mean here. `groups`: group to role; `acr` and `amr`: value to assurance level."""

    groups: Annotated[dict[str, Word], Meta(max_length=256)] = {}
    acr: Annotated[dict[str, _Aal], Meta(max_length=64)] = {}
    amr: Annotated[dict[str, _Aal], Meta(max_length=64)] = {}


class Renewal(_Rule, frozen=True):
    """Whether bearer credentials may be renewed, and how long one may live with all its renewals."""

    allowed: bool = True
    total_hours: Annotated[int, Meta(ge=1, le=24 * 365)] = 24 * 90


class Rules(_Rule, frozen=True):
    """All of rules.toml."""

    assurance: Assurance = Assurance()
    sensitive: Annotated[tuple[Sensitive, ...], Meta(max_length=64)] = ()
    roles: Annotated[dict[Word, RoleRule], Meta(max_length=512)] = {}
    exclusive: Annotated[tuple[Exclusive, ...], Meta(max_length=64)] = ()
    apart: Annotated[tuple[Apart, ...], Meta(max_length=64)] = ()
    networks: Annotated[dict[Word, tuple[Annotated[str, Meta(max_length=64)], ...]], Meta(max_length=64)] = {}
    limits: Limits = Limits()
    elevation: Elevation = Elevation()
    break_glass: BreakGlass = BreakGlass()
    sign_on: Annotated[dict[Word, SignOn], Meta(max_length=16)] = {}
    renewal: Renewal = Renewal()

    def ancestors(self, role: str) -> frozenset[str]:
        """Return a role and every role it is nested in. Loops were refused when the rules were read."""
        found, todo = {role}, [role]
        while todo:
            rule = self.roles.get(todo.pop())
            for parent in rule.parents if rule is not None else ():
                if parent not in found:
                    found.add(parent)
                    todo.append(parent)
        return frozenset(found)

    def approval(self, operation: str) -> ApprovalRule | None:
        """Return the strictest rule for an operation: of several, the highest count and assurance, roles that all admit."""
        naming = [rule for rule in self.sensitive if operation in rule.operations]
        if not naming:
            least = _LEAST_SENSITIVE.get(operation)
            return None if least is None else msgspec.structs.replace(least, assurance=self.assurance.sensitive)
        roles = [role for role in naming[0].roles if all(role in rule.roles for rule in naming)]
        return ApprovalRule(
            count=max(rule.count for rule in naming),
            roles=tuple(roles),
            hours=min(rule.hours for rule in naming),
            assurance=max(self.assurance.sensitive, *(rule.assurance for rule in naming)),
        )

    def fresh_seconds(self, operation: str) -> int:
        """Return how old a proof of presence may be for an operation; 0 where none is asked."""
        asked = [rule.fresh_minutes for rule in self.sensitive if operation in rule.operations and rule.fresh_minutes]
        return 60 * min(asked, default=0)


_LEAST_SENSITIVE = {"policy-apply": ApprovalRule(count=1, roles=("custodian", "operator", "auditor"), hours=24)}
"""What waits for another person though no rule says so: else one person, once, could take every other rule away alone."""
BUILT_IN_DUTIES = frozenset(role.value for role in Role)
_LEAST_EXCLUSIVE = (Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR, Role.APPLICATION, Role.BREAK_GLASS)


def excluded(rules: Rules, roles: frozenset[str]) -> tuple[str, str, str] | None:
    """Return two of `roles` that one person may not hold together, and why; None if they go together.

    That no two duties meet in one hand is built in: rules add to it, and cannot take it away.
    """
    whole = frozenset(ancestor for role in roles for ancestor in rules.ancestors(role))
    duties = {rules.roles[role].duty.value if role in rules.roles else role for role in whole}
    held = [duty.value for duty in _LEAST_EXCLUSIVE if duty.value in duties]
    if len(held) > 1:
        return held[0], held[1], "two duties never meet in one person"
    for rule in rules.exclusive:
        both = [role for role in rule.roles if role in whole]
        if len(both) > 1:
            return both[0], both[1], rule.why
    return None

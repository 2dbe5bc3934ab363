"""A policy revision, compiled, and the decision it makes. Pure: who asks, for what and from where comes as plain values.

A policy concerns some operations; a decision looks at those policies only (the slice), in sets of a hundred that are parsed once.
Sets combine exactly as one set would: any `forbid` refuses, any error refuses, else any `permit` permits (a property test holds
slices and sets to the whole). Cedar skips a policy that fails, so an error must never be taken for silence.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import cedarpy
import msgspec

from keyclave.core.errors import Malformed
from keyclave.identity.roles import SHARE_HOLDER
from keyclave.policy.apart import Apart, in_force, reason
from keyclave.policy.bundle import Bundle
from keyclave.policy.cedar import BUILT_IN, Kind, Policy, built_in, chunked, parsed, read_policies, schema_text, validate
from keyclave.policy.duties import EMERGENCY
from keyclave.policy.read_rules import read_rules
from keyclave.policy.rules import Rules, excluded

_KEPT = 4  # compiled bundles that are not in force
_LARGE = 100  # policies of the same operations: below that they are joined with others of the same slice
_REMEMBERED = 4096  # combinations of roles
_AGAIN = 2  # times that the whole may be read for the sake of joining


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Who (`principal` with all `roles`, nested ones too), does what, on which key (None: the tenant), how."""

    tenant: str
    principal: str
    person: bool
    duty: str
    roles: frozenset[str]
    action: str
    aal: int
    elevated: bool
    fresh: bool
    granted: bool
    how: str
    networks: frozenset[str]
    plane: str
    purpose: str
    key_id: str = ""
    key: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}

    def granting(self) -> Question:
        """Return the same question of a caller whom a scope or grant reaches."""
        return msgspec.structs.replace(self, granted=True)


class Verdict(msgspec.Struct, frozen=True):
    """`permits` and `forbids` are ids of policies; `errors` what went wrong. Allowed only with permits and nothing else."""

    permits: tuple[str, ...]
    forbids: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def allowed(self) -> bool:
        """Tell whether it is allowed."""
        return bool(self.permits) and not self.forbids and not self.errors


class Compiler:
    """Turns bundles into revisions, for one set of operations."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.kinds = kinds
        self._over = {name: kind.over for name, kind in kinds.items()}
        self._classed = {name: kind.classed for name, kind in kinds.items()}
        self.schema_text = schema_text(kinds)
        self.schema = cedarpy.Schema.from_str(self.schema_text)
        self._made: dict[bytes, Compiled] = {}  # by digest: what was planned is compiled when it is applied

    def findings(self, bundle: Bundle) -> tuple[int, list[str]]:
        """Return how many policies a bundle has and everything that Cedar's validator finds; `Malformed` if it cannot be read."""
        read_rules(bundle.rules, self._over, self._classed)
        policies = read_policies(bundle.cedar, self.kinds)
        return len(policies), validate(policies, self.schema, self.kinds)

    def compile(self, bundle: Bundle) -> Compiled:
        """Return the compiled revision. `Malformed` unless it is read and validated whole.

        It takes about a second for two thousand policies; no call of it holds up other threads for more than a few milliseconds.
        """
        digest = bundle.digest()
        known = self._made.get(digest)
        if known is None:
            known = self._compile(bundle, digest)
            while len(self._made) >= _KEPT:
                self._made.pop(next(iter(self._made)), None)
            self._made[digest] = known
        return known

    def _compile(self, bundle: Bundle, digest: bytes) -> Compiled:
        rules = read_rules(bundle.rules, self._over, self._classed)
        policies = read_policies(bundle.cedar, self.kinds)
        findings = validate(policies, self.schema, self.kinds)
        if findings:
            raise Malformed(
                f"the policies do not fit the schema: {findings[0]}", "run `keyclave policy validate` for every finding"
            )
        return Compiled(bundle, digest, rules, [built_in(self.kinds), *policies], self)


class Compiled:
    """A bundle, ready to decide. What it decides follows from the bundle alone, so one may serve several tenants and revisions;
    a decision remembered under another one is not of this one."""

    def __init__(self, bundle: Bundle, digest: bytes, rules: Rules, policies: list[Policy], compiler: Compiler) -> None:
        self.bundle = bundle
        self.digest = digest
        self.rules = rules
        self.apart = in_force(rules.apart)
        acts = tuple(rule for rule in self.apart if not rule.holder)
        self.apart_then = _by_act(acts, "then")
        self.apart_approve = _by_act(acts, "approve")
        holders = tuple(rule for rule in self.apart if rule.holder)
        self.holder_then = _by_act(holders, "then")
        self.holder_approve = _by_act(holders, "approve")
        self.policies = {policy.id: policy for policy in policies}
        self.networks = [(name, [ipaddress.ip_network(b) for b in blocks]) for name, blocks in rules.networks.items()]
        limits = rules.limits
        self.principal_rate = limits.principal if limits.principal.bounds else None
        self.key_rate = limits.key if limits.key.bounds else None
        self.tenant_rate = limits.tenant if limits.tenant.bounds else None
        self.uses_limited = self.key_rate is not None or self.tenant_rate is not None
        self.schema = compiler.schema
        self.kinds = compiler.kinds
        self._slices = _slices(policies, frozenset(compiler.kinds))
        self._ancestors: dict[str, frozenset[str]] = {}
        self._clashes: dict[tuple[str, ...], tuple[str, str, str] | None] = {}

    def ancestors(self, roles: tuple[str, ...]) -> frozenset[str]:
        """Return roles with everything they are nested in."""
        found: set[str] = set()
        for role in roles:
            known = self._ancestors.get(role)
            if known is None:
                known = self._ancestors[role] = self.rules.ancestors(role)
            found |= known
        return frozenset(found)

    def clash(self, roles: tuple[str, ...]) -> tuple[str, str, str] | None:
        """Return two of the roles that somebody holds now and that exclude each other, and why; None where there are none.

        What was refused when it was given can be held all the same: a rule may be younger than the role.
        """
        if roles not in self._clashes:
            if len(self._clashes) >= _REMEMBERED:
                self._clashes.clear()
            self._clashes[roles] = excluded(self.rules, frozenset(roles))
        return self._clashes[roles]

    def barring(self, action: str, roles: tuple[str, ...], *, own: bool = False) -> str:
        """Return why a person who holds these roles now does not do an operation; empty where nothing keeps them from it.

        `own`: they do it about themselves alone, as everybody may whose roles exclude each other; anything else waits until one
        of them is taken away. Sealing the server, which is for emergencies, never waits for that.
        """
        clash = None if own or action in EMERGENCY else self.clash(roles)
        if clash is not None:
            return f"{clash[0]} and {clash[1]} exclude each other{': ' if clash[2] else ''}{clash[2]}"
        rules = self.holder_then.get(action, ()) if SHARE_HOLDER in roles else ()
        return reason(rules[0]) if rules else ""

    def concerning(self, action: str) -> list[Policy]:
        """Return the policies that concern an operation, the built-in one among them."""
        return [policy for policy in self.policies.values() if action in policy.actions]

    def decide(self, question: Question) -> Verdict:
        """Ask every policy that concerns the operation."""
        request, entities = _request(question)
        permits: list[str] = []
        forbids: list[str] = []
        errors: list[str] = []
        for policies in self._slices.get(question.action, ()):
            answer = cedarpy.is_authorized(request, policies, entities, schema=self.schema)
            found = answer.diagnostics
            errors += found.errors
            if answer.decision is cedarpy.Decision.Allow:
                permits += found.reasons
            elif answer.decision is cedarpy.Decision.Deny:
                forbids += found.reasons
            elif not found.errors:
                errors.append("no decision")
        return Verdict(tuple(sorted(permits)), tuple(sorted(forbids)), tuple(errors))


def _by_act(rules: tuple[Apart, ...], side: str) -> dict[str, tuple[Apart, ...]]:
    """Return the rules that keep somebody from an act, by the act."""
    names = {name for rule in rules for name in getattr(rule, side)}
    return {name: tuple(rule for rule in rules if name in getattr(rule, side)) for name in names}


def _slices(policies: list[Policy], operations: frozenset[str]) -> dict[str, tuple[cedarpy.PolicySet, ...]]:
    """Return the sets to ask for each operation, few of them: each costs a decision its own tenth of a millisecond.

    Policies of the same operations share sets where they are many; the others are joined, for each operation what concerns it.
    Where that would read the same policies over and over (each names operations of its own), they are joined without regard to
    operations: a policy that does not concern one says nothing on it.
    """
    groups: dict[frozenset[str], list[Policy]] = {}
    for policy in policies:
        groups.setdefault(policy.actions, []).append(policy)
    many = {actions: group for actions, group in groups.items() if len(group) >= _LARGE}
    few = [group for actions, group in groups.items() if actions not in many]
    wanted = {op: [policy for group in few if op in group[0].actions for policy in group] for op in operations}
    distinct = {tuple(policy.id for policy in small): small for small in wanted.values()}
    if sum(map(len, distinct.values())) > _AGAIN * len(policies) + 2_000:
        for piece in chunked(sorted((policy for group in few for policy in group), key=lambda one: sorted(one.actions))):
            reached = frozenset(action for policy in piece for action in policy.actions)
            many[reached] = [*many.get(reached, ()), *piece]
        distinct, wanted = {}, {operation: [] for operation in operations}
    shared = {actions: _sets(group) for actions, group in many.items()}
    joined = {names: _sets(small) for names, small in distinct.items() if small}
    slices = {}
    for operation in sorted(operations):
        sets = [one for actions, found in shared.items() if operation in actions for one in found]
        slices[operation] = (*sets, *joined.get(tuple(policy.id for policy in wanted[operation]), ()))
    return slices


def _sets(policies: list[Policy]) -> list[cedarpy.PolicySet]:
    return [parsed(chunk) for chunk in chunked(policies)]


def _request(q: Question) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    tenant = {"type": "Tenant", "id": q.tenant}
    principal = {"type": "Person" if q.person else "Workload", "id": q.principal}
    resource = {"type": "Key", "id": q.key_id} if q.key_id else tenant
    roles = [{"type": "Role", "id": role} for role in sorted(q.roles)]
    entities: list[dict[str, Any]] = [{"uid": principal, "attrs": {"duty": q.duty}, "parents": [*roles, tenant]}]
    if q.key_id:
        tags = [{"type": "Tag", "id": f"{name}={value}"} for name, value in sorted(q.tags.items())]
        entities.append({"uid": resource, "attrs": dict(q.key), "parents": [*tags, tenant]})
    context = {
        "aal": q.aal,
        "elevated": q.elevated,
        "fresh": q.fresh,
        "granted": q.granted,
        "how": q.how,
        "networks": [{"__entity": {"type": "Network", "id": name}} for name in sorted(q.networks)],
        "plane": q.plane,
        "purpose": q.purpose,
    }
    request = {"principal": principal, "action": {"type": "Action", "id": q.action}, "resource": resource, "context": context}
    return request, entities


__all__ = ["BUILT_IN", "Compiled", "Compiler", "Question", "Verdict"]

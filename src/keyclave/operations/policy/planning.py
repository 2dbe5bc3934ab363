"""policy-plan: what a proposed bundle would change, before anybody applies it. Drift is the same question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.policy.forms import BundleRequest, RuleView, bundle_of
from keyclave.operations.policy.standings import tenancy
from keyclave.policy.cedar import text_of
from keyclave.policy.difference import Change, Comparison, compare, policy_changes, rule_changes
from keyclave.policy.engine import Compiled
from keyclave.policy.lockout import way_back

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_MOST = 500  # changes of each kind that are shown


class PlanRequest(BundleRequest, kw_only=True):
    """`reach`: whether to work out who would gain or lose what; without it, the answer comes at once."""

    reach: bool = True


class PolicyView(msgspec.Struct, kw_only=True):
    """A policy that differs, as Cedar text; null where it is not there."""

    id: str
    before: str | None
    after: str | None


class PlanAnswer(Answer, kw_only=True, omit_defaults=False):
    """What would change. `revision` is the one in force, which `policy-apply` must name; `same`: nothing differs in meaning.

    `changes`: who gains or loses which operations on which keys; of `left_out` pairs of a class of principals and an operation
    it is not known, for there were too many, and beyond 10,000 keys (`all_keys` false) of further keys. `refused`: why it could
    not be applied: nobody could change the policy again.
    """

    revision: int
    digest: str
    proposed: str
    same: bool
    policies: list[PolicyView]
    rules: list[RuleView]
    changes: list[Change]
    left_out: int
    all_keys: bool
    refused: str


def plan(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: PlanRequest) -> PlanAnswer:
    """Compare a bundle with the policy in force, by meaning."""
    revisions, tenant = desk.access.revisions, attempt.caller.tenant
    number, now = revisions.number(tenant), revisions.of(tenant)
    proposed = revisions.compiler.compile(bundle_of(request.files))
    here = tenancy(desk, attempt)
    found = Comparison(changes=[], left_out=0)
    if request.reach:
        found = compare(now, proposed, tenant, here.subjects(), here.targets)
    views, rules = policies_of(now, proposed), rules_of(now, proposed)
    attempt.count = max(1, len(views) + len(rules))
    return PlanAnswer(
        revision=number,
        digest=now.digest.hex(),
        proposed=proposed.digest.hex(),
        same=not views and not rules,
        policies=views[:_MOST],
        rules=rules[:_MOST],
        changes=found.changes[:_MOST],
        left_out=found.left_out + max(0, len(found.changes) - _MOST),
        all_keys=here.all_keys,
        refused=way_back(proposed, tenant, here.holders()),
    )


def policies_of(before: Compiled, after: Compiled) -> list[PolicyView]:
    """Return the policies that differ, as text."""
    differing = sorted(policy_changes(before, after).all())
    return [PolicyView(id=name, before=_text(before, name), after=_text(after, name)) for name in differing]


def rules_of(before: Compiled, after: Compiled) -> list[RuleView]:
    """Return the settings that differ."""
    return [RuleView(place=one.place, before=one.before, after=one.after) for one in rule_changes(before.rules, after.rules)]


def _text(compiled: Compiled, name: str) -> str | None:
    policy = compiled.policies.get(name)
    return None if policy is None else text_of(policy)

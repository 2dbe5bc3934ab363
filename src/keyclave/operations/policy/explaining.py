"""policy-explain: why somebody may do something, or why not: the decision, what decided it, and everything that was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from keyclave.identity.roles import SHARE_HOLDER
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.policy.forms import Files, bundle_of
from keyclave.operations.policy.supposing import Judgement, Supposition, check_form, judge
from keyclave.policy.cedar import BUILT_IN, text_of
from keyclave.policy.decision import Alternative, ApprovalRule
from keyclave.policy.engine import Compiled

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_MOST = 100  # policies that are listed by name


class ExplainRequest(Supposition, kw_only=True):
    """`files`: explain under this bundle instead of the policy in force."""

    files: Files | None = None


class ShownPolicy(msgspec.Struct, kw_only=True):
    """A policy that decided."""

    id: str
    file: str
    effect: str
    text: str


class ShownRight(msgspec.Struct, kw_only=True):
    """A right of which one must admit the encryption context. `until` in microseconds, 0: with the credential."""

    by: str
    grant: str
    context: dict[str, list[str]]
    counted: bool
    until: int


class ShownApproval(msgspec.Struct, kw_only=True):
    """Who must approve, and the assurance level of what they sign with."""

    count: int
    roles: list[str]
    hours: int
    assurance: int


class ShownApart(msgspec.Struct, kw_only=True):
    """A rule that keeps duties apart and concerns the operation. `side`: whoever did one of `first` on the same thing does not do
    it ("then"), or does not approve it ("approve")."""

    side: str
    first: list[str]
    over: str
    why: str


class ExplainAnswer(Answer, kw_only=True, omit_defaults=False):
    """`allowed`: it goes, once `approval` is given where one is needed. `attributes`: what policies could look at. `considered`:
    every policy that concerns the operation, whether or not it held."""

    allowed: bool
    why: str
    hint: str
    decided_by: list[ShownPolicy]
    considered: list[str]
    rights: list[ShownRight]
    right: str
    approval: ShownApproval | None
    apart: list[ShownApart]
    assurance: int
    fresh_seconds: int
    credential: str
    attributes: dict[str, Any]


def explain(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: ExplainRequest) -> ExplainAnswer:
    """Explain a supposed call."""
    check_form(request)
    revisions = desk.access.revisions
    revision = revisions.of(attempt.caller.tenant)
    if request.files is not None:
        revision = revisions.compiler.compile(bundle_of(request.files))
    attempt.detail = {"operation": request.operation, "principal": request.principal}
    return answer(revision, request.operation, judge(desk, attempt, revision, request))


def answer(revision: Compiled, operation: str, found: Judgement) -> ExplainAnswer:
    """Put a judgement into words."""
    decision, rules = found.decision, revision.rules
    verdict = None if found.question is None else revision.decide(found.question)
    names = () if verdict is None else verdict.forbids or verdict.permits
    approval = rules.approval(operation)
    needed = rules.assurance.of(found.caller.role) if found.caller.standing.person else 1
    refused = found.refused
    return ExplainAnswer(
        allowed=refused is None,
        why=_why(found, names) if refused is None else refused.detail,
        hint="" if refused is None else refused.hint,
        decided_by=[_policy(revision, name) for name in names],
        considered=[policy.id for policy in revision.concerning(operation)][:_MOST],
        rights=[_right(one) for one in (decision.alternatives if decision is not None else ())],
        right="" if found.right is None else found.right.grant or found.right.policy,
        approval=shown_approval(approval),
        apart=shown_apart(revision, operation),
        assurance=needed if approval is None else max(needed, approval.assurance),
        fresh_seconds=rules.fresh_seconds(operation),
        credential=found.caller.id,
        attributes=_attributes(found),
    )


def shown_approval(rule: ApprovalRule | None) -> ShownApproval | None:
    """Return who must approve, as it is shown."""
    if rule is None:
        return None
    return ShownApproval(count=rule.count, roles=list(rule.roles), hours=rule.hours, assurance=rule.assurance)


def shown_apart(revision: Compiled, operation: str) -> list[ShownApart]:
    """Return the rules that keep people from an operation, or from approving it, for what they did before."""
    sides = (
        ("then", revision.apart_then),
        ("then", revision.holder_then),
        ("approve", revision.apart_approve),
        ("approve", revision.holder_approve),
    )
    return [
        ShownApart(side=side, first=[SHARE_HOLDER] if rule.holder else list(rule.first), over=rule.over or "", why=rule.why)
        for side, rules in sides
        for rule in rules.get(operation, ())
    ]


def _why(found: Judgement, names: tuple[str, ...]) -> str:
    by = found.decision.policies if found.decision is not None else ""
    return f"permitted by {by or ', '.join(names)}"


def _policy(revision: Compiled, name: str) -> ShownPolicy:
    policy = revision.policies[name]
    text = "what a scope or grant reaches is permitted" if name == BUILT_IN else text_of(policy)
    return ShownPolicy(id=name, file=policy.file, effect=policy.effect, text=text)


def _right(one: Alternative) -> ShownRight:
    context = {name: list(values) for name, values in one.context.items()}
    return ShownRight(by=one.policy, grant=one.grant, context=context, counted=one.counted, until=one.until)


def _attributes(found: Judgement) -> dict[str, Any]:
    if found.question is None:
        return {}
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in msgspec.structs.asdict(found.question).items()
    }

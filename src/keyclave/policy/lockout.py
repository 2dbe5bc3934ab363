"""The way back: whether, under a policy, enough people could still change it. A policy under which nobody can is refused."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from keyclave.identity.roles import SHARE_HOLDER, Role
from keyclave.policy.decision import ApprovalRule
from keyclave.policy.duties import DUTIES
from keyclave.policy.engine import Compiled
from keyclave.policy.reach import TENANT, Subject, right, that_matter

APPLY = "policy-apply"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A person who is here: `aal` is the best they can prove, `signs` the assurance level of the best they have to sign approvals
    with, 0 for nothing."""

    subject: Subject
    aal: int
    signs: int


def way_back(compiled: Compiled, tenant: str, holders: Sequence[Holder]) -> str:
    """Return what is wrong and what to do about it; empty where somebody can ask for a change and enough others approve it.

    What only some circumstances permit (a network, a purpose) is tried in each of them: one that permits is enough.
    """
    rule = compiled.rules.approval(APPLY)
    if rule is not None and _plainly(compiled, tenant, rule, holders):
        return ""
    proposers = [one for one in holders if _can(compiled, tenant, _asking(compiled), one)]
    if not proposers:
        return "nobody could change the policy again: let a custodian or operator who is enrolled do policy-apply"
    if rule is None:
        return ""
    least = max(1, rule.assurance)
    signing = [one for one in holders if one.signs >= least and _counts(compiled, one, rule.roles)]
    approvers = {one.subject.name for one in signing if _can(compiled, tenant, _approving(compiled), one)}
    most = max(len(approvers - {one.subject.name}) for one in proposers)
    if most >= rule.count:
        return ""
    return (
        f"a change of the policy needs {rule.count} of {', '.join(rule.roles)} to approve it beside whoever asks, and there "
        f"would be {most} who can: ask for fewer, name more roles, or have more people enrol what signs"
    )


def _plainly(compiled: Compiled, tenant: str, rule: ApprovalRule, holders: Sequence[Holder]) -> bool:
    """Tell whether the first few people show that the way back is open: in a large house not everybody need be asked about."""
    least = max(1, rule.assurance)
    approvers, proposed = 0, False
    for one in holders:
        proposed = proposed or _can(compiled, tenant, _asking(compiled), one)
        if one.signs >= least and _counts(compiled, one, rule.roles) and _can(compiled, tenant, _approving(compiled), one):
            approvers += 1
        if proposed and approvers > rule.count:
            return True
    return False


def _counts(compiled: Compiled, holder: Holder, roles: tuple[str, ...]) -> bool:
    """Tell whether somebody's signature on a change of the policy would count."""
    subject = holder.subject
    if SHARE_HOLDER in subject.roles and APPLY in compiled.holder_approve:
        return False
    return not compiled.ancestors((subject.duty.value, *subject.roles)).isdisjoint(roles)


def _asking(compiled: Compiled) -> tuple[str, ...]:
    return tuple(name for name in (APPLY, "approval-request", "approval-execute") if name in compiled.kinds)


def _approving(compiled: Compiled) -> tuple[str, ...]:
    return tuple(name for name in ("approval-read", "approval-begin", "approval-sign") if name in compiled.kinds)


def _can(compiled: Compiled, tenant: str, actions: tuple[str, ...], holder: Holder) -> bool:
    """Tell whether a person can do each of some operations in one situation or other, with what they can prove."""
    subject = holder.subject
    if subject.duty is Role.PERSON:
        return False
    return all(subject.duty in DUTIES[action] and _once(compiled, tenant, action, holder) for action in actions)


def _once(compiled: Compiled, tenant: str, action: str, holder: Holder) -> bool:
    for situation in that_matter(action, holder.subject, (compiled,)).all:
        own = msgspec.structs.replace(situation, aal=min(situation.aal, holder.aal))
        if right(compiled, tenant, action, holder.subject, TENANT, own) is not None:
            return True
    return False

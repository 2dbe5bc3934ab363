"""policy-test: cases with what they expect, run against a bundle before it is applied. Cases live beside the bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from keyclave.core.errors import KeyclaveError
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.policy.explaining import ExplainAnswer, answer
from keyclave.operations.policy.forms import Files, bundle_of
from keyclave.operations.policy.supposing import Supposition, check_form, judge

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


class Case(Supposition, kw_only=True):
    """A supposed call and what is expected of it: `allow` or deny, by which policy, with how many approvers."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    allow: bool
    policy: Annotated[str, Meta(max_length=64)] = ""
    approvers: Annotated[int, Meta(ge=0, le=16)] | None = None


class TestRequest(Request, kw_only=True):
    """`files`: the bundle under test; without it, the policy in force."""

    cases: Annotated[list[Case], Meta(min_length=1, max_length=1000)]
    files: Files | None = None


class Outcome(msgspec.Struct, kw_only=True):
    """What became of a case; `said` is what differs from what was expected, or why it could not be judged."""

    name: str
    passed: bool
    said: str


class TestAnswer(Answer, kw_only=True, omit_defaults=False):
    """`passed` only if every case did."""

    passed: bool
    failed: int
    outcomes: list[Outcome]


def test(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: TestRequest) -> TestAnswer:
    """Run cases."""
    for case in request.cases:
        check_form(case)
    revisions = desk.access.revisions
    revision = revisions.of(attempt.caller.tenant)
    if request.files is not None:
        revision = revisions.compiler.compile(bundle_of(request.files))
    outcomes = []
    for case in request.cases:
        try:
            said = _differs(case, answer(revision, case.operation, judge(desk, attempt, revision, case)))
        except KeyclaveError as error:
            said = f"{error.detail} ({error.hint})"
        outcomes.append(Outcome(name=case.name, passed=not said, said=said))
    attempt.count, attempt.failed = len(outcomes), sum(not one.passed for one in outcomes)
    return TestAnswer(passed=not attempt.failed, failed=attempt.failed, outcomes=outcomes)


def _differs(case: Case, found: ExplainAnswer) -> str:
    if found.allowed is not case.allow:
        expected = "allowed" if case.allow else "refused"
        return f"expected to be {expected}, but {found.why}"
    if case.policy and case.policy not in {one.id for one in found.decided_by}:
        return f"expected {case.policy} to decide, but {', '.join(one.id for one in found.decided_by) or 'nothing'} did"
    approvers = 0 if found.approval is None else found.approval.count
    if case.approvers is not None and approvers != case.approvers:
        return f"expected {case.approvers} approvers, but {approvers} are asked"
    return ""

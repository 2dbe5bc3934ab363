"""The rows of policy in the table of operations."""

from __future__ import annotations

from typing import Any

from keyclave.operations.operation import Operation, always
from keyclave.operations.policy import (
    applying,
    explaining,
    planning,
    show,
    simulating,
    testing,
    validating,
    who_can,
)
from keyclave.operations.policy.forms import BundleRequest, RevisionView
from keyclave.policy.classes import Class

_POLICY = "/v1/policy"


def _asked(name: str, path: str, request: type, answer: type, run: Any, summary: str) -> Operation:
    return Operation(name, "POST", path, request, answer, summary, run, needs_root=False, slow=always)


OPERATIONS: list[Operation] = [
    Operation("policy-read", "GET", _POLICY, None, show.PolicyAnswer, "Return the policy in force, or another revision.",
              show.read_policy, query=show.PolicyQuery, needs_root=False, slow=always),
    Operation("policy-list", "GET", f"{_POLICY}/revisions", None, show.RevisionPage, "List revisions of the policy.",
              show.list_revisions, query=show.RevisionQuery, needs_root=False, slow=always),
    _asked("policy-validate", f"{_POLICY}/validate", BundleRequest, validating.ValidateAnswer, validating.validate,
           "Find everything that is wrong with a bundle."),
    _asked("policy-plan", f"{_POLICY}/plan", planning.PlanRequest, planning.PlanAnswer, planning.plan,
           "Say what a bundle would change: policies, rules, and who would gain or lose what."),
    Operation("policy-apply", "POST", f"{_POLICY}/apply", applying.ApplyRequest, RevisionView,
              "Put a bundle in force; it waits for another person.", applying.apply, changes=True, slow=always,
              classed=Class.POLICY),
    _asked("policy-explain", f"{_POLICY}/explain", explaining.ExplainRequest, explaining.ExplainAnswer, explaining.explain,
           "Say why somebody may do something, or why not."),
    _asked("policy-test", f"{_POLICY}/test", testing.TestRequest, testing.TestAnswer, testing.test,
           "Run cases with expectations against a bundle."),
    _asked("policy-simulate", f"{_POLICY}/simulate", simulating.SimulateRequest, simulating.SimulateAnswer, simulating.simulate,
           "Judge the calls of the last days under a bundle: which would come out otherwise."),
    Operation("who-can", "GET", "/v1/who-can", None, who_can.WhoAnswer, "Say who may do an operation on a key, and by what.",
              who_can.who_can, query=who_can.WhoQuery, needs_root=False, slow=always),
]  # fmt: skip

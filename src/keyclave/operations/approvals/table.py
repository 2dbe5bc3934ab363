"""The rows of approvals in the table of operations."""

from __future__ import annotations

from keyclave.identity.peer import Plane
from keyclave.operations.approvals import ask, bundle, end, execute, sign, view
from keyclave.operations.forms import Empty
from keyclave.operations.operation import Operation, always

_ONE = "/v1/approvals/{approval}"

OPERATIONS: list[Operation] = [
    Operation(
        "approval-request", "POST", "/v1/approvals", ask.AskRequest, view.ApprovalView,
        "Ask others to approve a sensitive operation with exactly these parameters.", ask.ask, changes=True, status=201,
        self_service=True, plane=Plane.BOTH,  # the act itself is judged, item by item
    ),
    Operation(
        "approval-list", "GET", "/v1/approvals", None, view.ApprovalPage, "List requests for approval.", view.list_approvals,
        query=view.ApprovalQuery, slow=always,
    ),
    Operation(
        "approval-read", "GET", _ONE, None, view.ApprovalView, "Show a request for approval and who signed it.",
        view.read_approval,
    ),
    Operation(
        "approval-bundle", "GET", f"{_ONE}/bundle", None, bundle.ApprovalBundle,
        "Return what proves an approval offline.", bundle.read_bundle,
    ),
    Operation(
        "approval-begin", "POST", f"{_ONE}/begin", sign.BeginSigning, sign.SigningBegun,
        "Return the statement that the caller would sign.", sign.begin,
    ),
    Operation(
        "approval-sign", "POST", f"{_ONE}/sign", sign.SignRequest, view.ApprovalView,
        "Approve: sign the request's hash with a passkey or an enrolled key.", sign.sign, changes=True,
    ),
    Operation(
        "approval-deny", "POST", f"{_ONE}/deny", end.DenyRequest, view.ApprovalView, "Deny a request, with a reason.", end.deny,
        changes=True,
    ),
    Operation(
        "approval-withdraw", "POST", f"{_ONE}/withdraw", end.WithdrawRequest, view.ApprovalView,
        "Take one's own request back.", end.withdraw, changes=True, self_service=True,
        plane=Plane.BOTH,
    ),
    Operation(
        execute.NAME, "POST", f"{_ONE}/execute", Empty, execute.Executed,
        "Do what was approved, exactly once.", execute.execute, changes=True, self_service=True, plane=Plane.BOTH,
    ),
]  # fmt: skip

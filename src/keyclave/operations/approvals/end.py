"""approval-deny and approval-withdraw: a request ends before it is executed, and the record says by whom and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.errors import Conflict, Malformed, Refused
from keyclave.operations.approvals.evidence import find, gather, held_roles, name_approval
from keyclave.operations.approvals.hold import check_open
from keyclave.operations.approvals.view import ApprovalView, view
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import approvals

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


class DenyRequest(Request, kw_only=True):
    """Why: whoever asked reads it."""

    reason: Reason


class WithdrawRequest(Request, kw_only=True):
    """Why, if it is worth saying."""

    reason: Reason = ""


def deny(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: DenyRequest) -> Callable[[Connection], ApprovalView]:
    """Deny: one person whose signature would count is enough, whoever has signed already."""
    if not request.reason:
        raise Malformed("a denial needs a reason", "say why: whoever asked reads it")

    def check(conn: Connection) -> None:
        evidence = gather(desk, conn, find(conn, attempt.caller.tenant, attempt.ref))
        rules = desk.access.revisions.of(attempt.caller.tenant).rules
        roles = held_roles(conn, rules, attempt.caller.tenant, attempt.caller.principal)
        if not attempt.caller.standing.person or not all(roles.intersection(rule.roles) for rule in evidence.rules):
            raise Refused("you cannot deny this: you hold none of the roles that approve it", "ask one who does")
        check_open(desk, evidence)

    return _end(desk, attempt, check, "denied", request.reason)


def withdraw(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: WithdrawRequest
) -> Callable[[Connection], ApprovalView]:
    """Withdraw one's own request."""

    def check(conn: Connection) -> None:
        evidence = gather(desk, conn, find(conn, attempt.caller.tenant, attempt.ref))
        if evidence.kept.requester != attempt.caller.principal:
            raise Refused("this was asked for by somebody else", "an approver denies it: `keyclave approval deny`")
        check_open(desk, evidence)

    return _end(desk, attempt, check, "withdrawn", request.reason)


def _end(
    desk: Desk, attempt: Attempt, check: Callable[[Connection], None], how: str, reason: str
) -> Callable[[Connection], ApprovalView]:
    name_approval(attempt)
    attempt.reason = reason
    desk.store.read(check)

    def change(transaction: Connection) -> ApprovalView:
        check(transaction)
        if not approvals.end_approval(transaction, attempt.ref, how, attempt.at, attempt.caller.principal, reason, attempt.event):
            raise Conflict("this request has ended meanwhile", "see `keyclave approval show`")
        return view(gather(desk, transaction, find(transaction, attempt.caller.tenant, attempt.ref)), attempt.at)

    return change

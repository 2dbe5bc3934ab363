"""approval-execute: do what was approved, all of it, exactly once.

Every item runs through policy again as the requester's own act, then through its verb, and all of it is one transaction with the
using up of the approval and with an event for each item: a crash leaves all of it or nothing. An item that fails is undone by
itself and reported; the approval is used up all the same, for what was signed has been tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection

from keyclave.core.errors import Broken, KeyclaveError, Refused, Sealed, Unauthenticated
from keyclave.operations.approvals.evidence import Evidence, name_approval
from keyclave.operations.approvals.hold import check, use_up
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer, Empty, Problem
from keyclave.operations.grants.spend import spend_grants
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.once import make_change

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk
    from keyclave.operations.operation import Operation

NAME = "approval-execute"


class Result(msgspec.Struct, kw_only=True):
    """What became of an item: the operation's own answer, or the error."""

    ref: str
    answer: Any = None
    error: Problem | None = None


class Executed(Answer, kw_only=True):
    """One result for each item, in the order in which they were approved."""

    approval: str
    operation: str
    results: list[Result]


def prepare(desk: Desk, attempt: Attempt) -> None:
    """On the loop, where keys may be looked for: check the approval, and judge every item as the caller's own act.

    A caller who lost the right, or a policy that asks for more of them, ends it here with nothing used up.
    """
    name_approval(attempt)
    evidence = desk.store.read(lambda conn: check(desk, conn, attempt))
    op = desk.approvals.operation(evidence.request.operation)
    items = []
    for item in evidence.request.items:
        inner = desk.inner(op, attempt, item.ref, desk.approvals.parse(op, item.request))
        inner.if_match, inner.dry_run = item.if_match, attempt.dry_run
        try:
            inner.key = desk.judge(op, inner, item.ref)
        except (Refused, Sealed, Unauthenticated):
            raise
        except KeyclaveError as error:  # the key is gone, say: the item's own fault
            inner.error = error
        items.append(inner)
    attempt.inner = attempt.inner or tuple(items)  # judged again after slow work: what was worked out stays, or is refused above
    attempt.slow = op.slow is not None and any(op.slow(inner.key, inner.request) for inner in items if inner.error is None)
    attempt.detail = {"executed": desk.approvals.name(op), "items": len(items), "request": evidence.kept.digest.hex()}
    attempt.count = len(items)


def execute(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> Callable[[Connection], Executed]:
    """Work every item out, and return the change that makes them all."""
    op = desk.approvals.operation(str((attempt.detail or {})["executed"]))
    for inner in attempt.inner:
        if inner.error is None:
            _work_out(desk, op, inner)
    attempt.touches = tuple({name for inner in attempt.inner for name in inner.touches})
    attempt.after = lambda: _after(attempt)

    def change(transaction: Connection) -> Executed:
        evidence = check(desk, transaction, attempt)
        _check_unchanged(desk, op, attempt, evidence)
        for place, inner in enumerate(attempt.inner):
            _make(desk, inner, transaction, f"item_{place}")
        attempt.drops = tuple({name for inner in attempt.inner for name in inner.drops})
        attempt.failed = sum(inner.error is not None for inner in attempt.inner)
        events = [inner.event for inner in attempt.inner]
        use_up(transaction, attempt, msgspec.json.encode(events).decode())
        return Executed(approval=attempt.approval, operation=op.name, results=[_result(inner) for inner in attempt.inner])

    return change


def _work_out(desk: Desk, op: Operation, inner: Attempt) -> None:
    try:
        result = op.run(desk, inner, inner.key, inner.request)
        spend_grants(inner)
    except KeyclaveError as error:
        inner.error = error
        return
    except Exception as fault:
        inner.error = Broken("the operation failed", "see the server's log")
        desk.on_loop(desk.log.complain, fault)
        return
    inner.changes = op.changes
    inner.change_fn = result if op.changes else (lambda _transaction: result)
    if op.changes:
        inner.touches = inner.touches or ((inner.key_id,) if inner.key_id else ())


def _make(desk: Desk, inner: Attempt, transaction: Connection, place: str) -> None:
    """Make one item's change in a savepoint of its own."""
    if inner.error is not None:
        return
    transaction.exec_driver_sql(f"SAVEPOINT {place}")
    try:
        inner.reserve(transaction)
        make_change(desk, inner, transaction)
    except KeyclaveError as error:
        transaction.exec_driver_sql(f"ROLLBACK TO {place}")
        if error.code != "dry_run":
            inner.error, inner.answer = error, None
    transaction.exec_driver_sql(f"RELEASE {place}")


def _check_unchanged(desk: Desk, op: Operation, attempt: Attempt, evidence: Evidence) -> None:
    """Hold what was worked out to what is kept: the rows cannot change, so a difference is a fault of ours."""
    kept = [(item.ref, desk.approvals.parse(op, item.request), item.if_match) for item in evidence.request.items]
    if kept != [(inner.ref, inner.request, inner.if_match) for inner in attempt.inner]:
        raise Broken("what was worked out is not what was approved", "nothing was done; see the server's log")


def _after(attempt: Attempt) -> None:
    for inner in attempt.inner:
        if inner.after is not None and inner.error is None:
            inner.after()


def _result(inner: Attempt) -> Result:
    if inner.error is None:
        return Result(ref=inner.ref, answer=inner.answer)
    error = inner.error
    return Result(ref=inner.ref, error=Problem(code=error.code, detail=error.detail, hint=error.hint))

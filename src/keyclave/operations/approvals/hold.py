"""The hold: no sensitive operation passes here without an approval of exactly this act, and each approval passes once.

It stands between policy's decision and the verb, in the desk, so every protocol is held to it. What is found here is looked at
again inside the transaction of the act: there nothing can change any more, and there the approval is used up with the act's own
event, or nothing happens at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.approvals.request import Item, same_act
from keyclave.core.errors import ApprovalRequired, Refused, WrongState
from keyclave.operations.approvals.evidence import Evidence, find, gather
from keyclave.operations.approvals.room import plain
from keyclave.store.access import approvals

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk
    from keyclave.operations.keyring import LoadedKey
    from keyclave.operations.operation import Operation


def hold(desk: Desk, op: Operation, attempt: Attempt, key: LoadedKey | None) -> None:
    """Refuse an attempt that needs an approval and has none, or one of something else; have its approval used up with it."""
    if not attempt.approval:
        if attempt.dry_run:  # rehearsed, nothing is done
            return
        named = desk.approvals.name(op) or op.name
        raise ApprovalRequired(
            f"{attempt.action} waits for the approval of others: nobody acts alone",
            f"ask for it: `keyclave approval request {named}`, or POST /v1/approvals; then repeat with Keyclave-Approval",
        )
    act = Item(ref=attempt.ref if key is None else key.key.id, request=plain(attempt.request))
    evidence = desk.store.read(lambda conn: check(desk, conn, attempt))
    _check_same(desk, attempt, op, act, evidence)

    def spend(transaction: Connection) -> None:
        _check_same(desk, attempt, op, act, check(desk, transaction, attempt))
        use_up(transaction, attempt, "")

    attempt.spends = (*attempt.spends, spend)


def check(desk: Desk, conn: Connection, attempt: Attempt) -> Evidence:
    """Return the evidence of the approval that an attempt names, or refuse: it must be the caller's, open, and signed enough."""
    evidence = gather(desk, conn, find(conn, attempt.caller.tenant, attempt.approval))
    if evidence.kept.requester != attempt.caller.principal:
        raise Refused("this approval was asked for by somebody else", "whoever asked executes it; ask for one of your own")
    check_open(desk, evidence)
    counted = evidence.tally
    if not counted.needed:
        raise nobody_can()
    if not counted.enough:
        names = f" ({'; '.join(f'{name}: {why}' for name, why in counted.not_counted)})" if counted.not_counted else ""
        raise ApprovalRequired(
            f"{len(counted.counted)} of {counted.needed} approvals count now{names}",
            "ask for the signatures that are missing: `keyclave approval show` says whose count",
        )
    return evidence


def check_open(desk: Desk, evidence: Evidence) -> None:
    """Refuse a request that has ended, or whose window has closed."""
    if evidence.kept.ending:
        raise WrongState(f"this request was {evidence.kept.ending} already", "ask again: an approval is used once")
    if desk.clock.now() >= evidence.ends_at:
        raise WrongState("the window of this request is over", "ask again, and have it signed again")


def use_up(transaction: Connection, attempt: Attempt, items: str) -> None:
    """Mark the approval as executed by this attempt's event; of two who race, one does."""
    done = approvals.end_approval(
        transaction, attempt.approval, "executed", attempt.at, attempt.caller.principal, "", attempt.event, items
    )
    if not done:
        raise WrongState("this request was executed already", "ask again: an approval is used once")


def nobody_can() -> Refused:
    """Return the refusal of what no number of people can approve: no applicable factor is a no."""
    return Refused("the rule for this can be met by nobody, so it is refused", "whoever keeps the policy names roles and a count")


def _check_same(desk: Desk, attempt: Attempt, op: Operation, act: Item, evidence: Evidence) -> None:
    request = evidence.request
    if request.operation != desk.approvals.name(op):
        raise Refused(f"what was approved is {request.operation}, not {op.name}", "an approval is for one act alone")
    if len(request.items) != 1:
        raise Refused(f"what was approved is a list of {len(request.items)}", "execute it whole: `keyclave approval execute`")
    (item,) = request.items
    if not same_act(item, act):
        raise Refused(
            "what was approved is not this, to the letter",
            "send what was approved, or let `keyclave approval execute` do it",
        )
    if item.if_match is not None:
        if attempt.if_match not in (None, item.if_match):
            raise Refused("what was approved is for another revision of the key", "leave If-Match out, or ask again")
        attempt.if_match = item.if_match

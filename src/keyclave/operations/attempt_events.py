"""The events of an attempt: its own, those of what was done within it, several where one does not hold all there is to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.audit.event import Event, encode
from keyclave.audit.event_ids import event_id
from keyclave.operations.event_parts import repeated

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt


def leaves_of(attempt: Attempt, first: int, outcome: str) -> list[bytes]:
    """Return the encoded events, numbered from `first`; those of items follow, refused where the whole is."""
    if attempt.inner:
        own = [encode(event_of(attempt, first, outcome, attempt.context, 0))]
        for inner in attempt.inner:
            own += leaves_of(inner, first + len(own), _became(attempt, inner, outcome))
        return own
    if attempt.events == 1:
        context = attempt.parts[0] if attempt.parts else attempt.context
        return [encode(event_of(attempt, first, outcome, context, 0))]
    return [encode(event_of(attempt, first + i, outcome, part or None, i + 1)) for i, part in enumerate(attempt.parts)]


def _became(attempt: Attempt, inner: Attempt, outcome: str) -> str:
    """Return the outcome of what was done within an attempt."""
    if attempt.replayed:
        return "conflict"
    if outcome != "ok":
        return outcome
    return inner.outcome if inner.error is None else inner.error.code


def event_of(attempt: Attempt, number: int, outcome: str, context: dict[str, list[str]] | None, part: int) -> Event:
    """Return an event of it."""
    caller = attempt.caller
    return Event(
        actor=caller.principal,
        approval=attempt.approval,
        at=attempt.at,
        context=context,
        count=attempt.count,
        credential=caller.id,
        detail=attempt.detail if part < 2 else repeated(attempt.detail),
        failed=attempt.failed,
        grant=attempt.grant or caller.standing.elevation,
        how=caller.standing.how,
        id=event_id(attempt.journal or attempt.desk.store.node, number),
        key=attempt.key_id,
        op=attempt.op,
        outcome=outcome,
        part=part,
        policy=attempt.decision.policies if attempt.decision is not None else "",
        purpose=attempt.purpose,
        reason=attempt.reason,
        role=caller.role if caller.id else "",
        source=attempt.peer.address,
        stale=attempt.stale,
        tenant=caller.tenant,
        version=attempt.version,
    )

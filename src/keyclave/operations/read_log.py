"""log-read, receipt-read: the record, shown to auditors, and each caller's own receipts."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyclave.audit.event import Event, decode
from keyclave.audit.event_ids import parse_event_id
from keyclave.core import limits
from keyclave.core.errors import Malformed, Unknown
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Base64
from keyclave.operations.keyring import LoadedKey
from keyclave.policy.duties import check_duty
from keyclave.store.sequence import read_promised

READ = "log-read"
_SCAN = 20_000  # entries looked at for one page, at most: a filter that matches nothing must not read the whole log
_CHUNK = 2_000

Index = Annotated[int, Meta(ge=0, le=2**53)]


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}):
    """Events from number `from`; the filters are exact. `key` is the id of a key that was used: its own, or a target's."""

    from_: Index = 0
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100
    key: str = ""
    actor: str = ""
    operation: str = ""
    outcome: str = ""
    grant: str = ""


class EventsPage(Answer, kw_only=True):
    """`next` is where to go on, or null at the end of the log."""

    events: list[dict[str, Any]]
    next: int | None


class ReceiptAnswer(msgspec.Struct, kw_only=True):
    """The exact leaf (base64), its index, and a C2SP tlog-proof."""

    event: str
    index: int
    leaf: Base64
    proof: str


class PromiseAnswer(msgspec.Struct, kw_only=True):
    """The event is durable in its node's journal and will have its place in the log: ask again in a moment."""

    event: str
    promised: bool


class ConsistencyQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}):
    """From the smaller size to the larger."""

    from_: Index
    to: Index


class ConsistencyAnswer(msgspec.Struct, kw_only=True, rename={"from_": "from"}):
    """RFC 6962 consistency proof, each hash in base64."""

    from_: int
    to: int
    proof: list[str]


def read_events(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: EventsQuery) -> EventsPage:
    """Return a page of the caller's tenant's events, in the order of the log."""
    found: list[dict[str, Any]] = []
    at, end = query.from_, query.from_ + _SCAN
    while at < end and len(found) < query.limit:
        entries = desk.log.entries(at, min(_CHUNK, end - at))
        if not entries:
            attempt.count = max(1, len(found))
            return EventsPage(events=found, next=None)
        for entry in entries:
            event = decode(entry)
            if _matches(event, attempt.caller.tenant, query):
                found.append({"index": at, **msgspec.json.decode(entry)})
            at += 1
            if len(found) == query.limit:
                break
    attempt.count = max(1, len(found))
    return EventsPage(events=found, next=at)


def _matches(event: Event, tenant: str, query: EventsQuery) -> bool:
    return (
        event.tenant in (tenant, "")
        and (query.key in ("", event.key) or query.key in _targets(event))
        and query.actor in ("", event.actor)
        and query.operation in ("", event.op)
        and query.outcome in ("", event.outcome)
        and query.grant in ("", event.grant)
    )


def _targets(event: Event) -> list[str]:
    """Return the ids of the keys that something was re-encrypted to: they were used like the one in `key`."""
    return [] if event.detail is None else str(event.detail.get("to_key", "")).split(",")


def check_reader(desk: Desk, caller: Caller, peer: Peer) -> None:
    """Hold whoever fetches the log's own files to what `log-read` is held to: duty, assurance, policy.

    Tiles hold the same events that the operation shows page by page: a stolen token that is too weak for one must be for both.
    """
    check_duty(caller, READ)
    attempt = Attempt(desk, READ, caller, peer, lambda _attempt: None)
    attempt.action = READ
    desk.access.check_others(attempt)


def read_receipt(desk: Desk, caller: Caller, peer: Peer, event: str) -> ReceiptAnswer | PromiseAnswer:
    """Return the receipt of an event: to auditors of its tenant, and to the caller whose attempt it was.

    Among many nodes an event is durable before it has its place in the log: until then, the promise of a receipt.
    """
    check_duty(caller, "receipt-read")
    try:
        receipt = desk.log.receipt(event)
    except Unknown:
        named = parse_event_id(event)
        kept = None if named is None else desk.store.read(lambda conn: read_promised(conn, *named))
        if kept is None:
            raise
        _check_receiver(desk, caller, peer, kept)
        return PromiseAnswer(event=event, promised=True)
    _check_receiver(desk, caller, peer, receipt.leaf)
    leaf = base64.b64encode(receipt.leaf).decode()
    return ReceiptAnswer(event=event, index=receipt.index, leaf=leaf, proof=receipt.proof)


def _check_receiver(desk: Desk, caller: Caller, peer: Peer, leaf: bytes) -> None:
    record = decode(leaf)
    own = record.tenant == caller.tenant and record.credential == caller.id
    if not own and caller.role is Role.AUDITOR:
        check_reader(desk, caller, peer)
    if not own and not (record.tenant in (caller.tenant, "") and caller.role is Role.AUDITOR):
        raise Unknown("no such event", "an event has its number once the operation has been answered")


def read_consistency(desk: Desk, caller: Caller, peer: Peer, query: ConsistencyQuery) -> ConsistencyAnswer:
    """Return the proof between two sizes."""
    check_reader(desk, caller, peer)
    if query.from_ > query.to:
        raise Malformed("`from` is larger than `to`", "ask from the smaller size to the larger")
    proof = desk.log.consistency(query.from_, query.to)
    return ConsistencyAnswer(from_=query.from_, to=query.to, proof=[base64.b64encode(h).decode() for h in proof])

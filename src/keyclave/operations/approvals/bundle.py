"""approval-bundle: all that proves one approval to somebody with only the log's public keys (`keyclave-verify approval`).

The request, each statement with its signature and public key, and receipts from the log: of the request, of each signature, of
the enrolment behind each signature, and of how it ended, item by item. spec/approvals.md is the law.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection

from keyclave.core.errors import Unavailable, Unknown
from keyclave.operations.approvals.evidence import find, name_approval
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.enrolment import open_bytes
from keyclave.store.access import approvals, people
from keyclave.store.access.approvals import Approval, Signature
from keyclave.store.access.people import Authenticator

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

FORMAT = "keyclave/approval-bundle/1"
_Signed = list[tuple[Signature, Authenticator | None]]


class BundledReceipt(msgspec.Struct, kw_only=True):
    """The exact leaf (base64), its index, and a C2SP tlog-proof."""

    event: str
    index: int
    leaf: str
    proof: str


class BundledSignature(msgspec.Struct, kw_only=True):
    """`public`: base64 of the DER SubjectPublicKeyInfo of a key, of the COSE key of a passkey."""

    statement: str
    kind: str
    proof: dict[str, Any]
    public: str
    receipt: BundledReceipt
    enrolment: BundledReceipt | None


class BundledRelying(msgspec.Struct, kw_only=True):
    """For whom passkeys sign here."""

    id: str
    origins: list[str]


class ApprovalBundle(Answer, kw_only=True):
    """`status`: open, executed, denied or withdrawn. `items`: of an execution of several, one receipt each."""

    format: str
    origin: str
    relying: BundledRelying
    request: str
    status: str
    signatures: list[BundledSignature]
    requested: BundledReceipt
    ended: BundledReceipt | None
    items: list[BundledReceipt]


def read_bundle(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _query: None) -> ApprovalBundle:
    """Return the bundle of a request."""
    name_approval(attempt)

    def read(conn: Connection) -> tuple[Approval, _Signed]:
        kept = find(conn, attempt.caller.tenant, attempt.ref)
        signed = approvals.read_signatures(conn, kept.id)
        return kept, [(one, people.read_authenticator(conn, kept.tenant, one.authenticator)) for one in signed]

    kept, signed = desk.store.read(read)
    desk.log.refresh()  # its events may have got their places since anybody asked here for any
    relying = desk.people.relying
    items = msgspec.json.decode(kept.items_events, type=list[str]) if kept.items_events else []
    return ApprovalBundle(
        format=FORMAT,
        origin=desk.log.origin,
        relying=BundledRelying(id=relying.id, origins=list(relying.origins)),
        request=open_bytes(desk, kept.tenant, kept.id, kept.canonical).decode(),
        status=kept.ending or "open",
        signatures=[_signature(desk, one, found) for one, found in signed],
        requested=_receipt(desk, kept.event),
        ended=_receipt(desk, kept.ended_event) if kept.ended_event else None,
        items=[_receipt(desk, event) for event in items],
    )


def _signature(desk: Desk, one: Signature, found: Authenticator | None) -> BundledSignature:
    enrolled = None if found is None else found.event
    return BundledSignature(
        statement=one.statement,
        kind="" if found is None else found.kind,
        proof=msgspec.json.decode(one.proof, type=dict[str, Any]),
        public="" if found is None else base64.b64encode(found.public or b"").decode(),
        receipt=_receipt(desk, one.event),
        enrolment=_receipt(desk, enrolled) if enrolled else None,
    )


def _receipt(desk: Desk, event: str) -> BundledReceipt:
    try:
        receipt = desk.log.receipt(event)
    except Unknown:  # among many nodes an event is durable before it has its place
        raise Unavailable("an event of this approval has no place in the log yet", "ask again in a second") from None
    leaf = base64.b64encode(receipt.leaf).decode()
    return BundledReceipt(event=event, index=receipt.index, leaf=leaf, proof=receipt.proof)

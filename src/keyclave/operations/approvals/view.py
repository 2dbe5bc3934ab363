"""How a request for approval is shown, and the queries that find it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from keyclave.core.clock import to_text
from keyclave.core.errors import Unknown
from keyclave.identity.roles import Role
from keyclave.operations.approvals.evidence import Evidence, find, gather, name_approval
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import approvals

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


class Signed(msgspec.Struct, kw_only=True):
    """Who signed, with what, when; `counts` is empty, or says why the signature does not count now."""

    approver: str
    authenticator: str
    signed_at: str
    counts: bool
    why_not: str


class ApprovalView(Answer, kw_only=True):
    """A request. `canonical` is the text whose SHA-256 (`request_sha256`) approvers sign. `status`: pending, approved (enough
    have signed), executed, denied, withdrawn or expired. `needed` is under the rule now in force, if that is the stricter one."""

    id: str
    status: str
    operation: str
    requester: str
    reason: str
    items: list[dict[str, Any]]
    needed: int
    roles: list[list[str]]
    signatures: list[Signed]
    requested_at: str
    expires_at: str
    ended_at: str | None
    ended_by: str | None
    ended_why: str | None
    canonical: str
    request_sha256: str


class ApprovalQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of requests; `open` leaves out what has ended or expired."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    open: bool = False


class ApprovalPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    approvals: list[ApprovalView]
    next: str | None


def read_approval(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _query: None) -> ApprovalView:
    """Show one request; a person without a duty sees only what they asked for themselves."""
    name_approval(attempt)
    evidence = desk.store.read(lambda conn: gather(desk, conn, find(conn, attempt.caller.tenant, attempt.ref)))
    if attempt.caller.role is Role.PERSON and evidence.kept.requester != attempt.caller.principal:
        raise Unknown("no such request for approval", "see `keyclave approval list`")
    return view(evidence, attempt.at)


def list_approvals(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: ApprovalQuery) -> ApprovalPage:
    """List requests in the order of their ids."""
    open_at = attempt.at if query.open else None

    def read(conn: Any) -> list[Evidence]:
        found = approvals.list_approvals(conn, attempt.caller.tenant, query.cursor, query.limit + 1, open_at=open_at)
        return [gather(desk, conn, kept) for kept in found]

    found = desk.store.read(read)
    page = found[: query.limit]
    return ApprovalPage(
        approvals=[view(one, attempt.at) for one in page], next=page[-1].kept.id if len(found) > query.limit else None
    )


def view(evidence: Evidence, now: int) -> ApprovalView:
    """Return what is shown of a request at a time."""
    kept, request = evidence.kept, evidence.request
    not_counted = dict(evidence.tally.not_counted)
    return ApprovalView(
        id=kept.id,
        status=status(evidence, now),
        operation=request.operation,
        requester=request.requester,
        reason=request.reason,
        items=[msgspec.to_builtins(item) for item in request.items],
        needed=evidence.tally.needed,
        roles=[list(rule.roles) for rule in evidence.rules],
        signatures=[
            Signed(
                approver=one.approver,
                authenticator=one.authenticator,
                signed_at=to_text(one.signed_at),
                counts=one.approver in evidence.tally.counted,
                why_not=not_counted.get(one.approver, ""),
            )
            for one in evidence.signatures
        ],
        requested_at=to_text(request.requested_at),
        expires_at=to_text(evidence.ends_at),
        ended_at=to_text(kept.ended_at) if kept.ended_at else None,
        ended_by=kept.ended_by or None,
        ended_why=kept.ended_why or None,
        canonical=evidence.canonical.decode(),
        request_sha256=kept.digest.hex(),
    )


def status(evidence: Evidence, now: int) -> str:
    """Return how a request stands."""
    if evidence.kept.ending:
        return evidence.kept.ending
    if now >= evidence.ends_at:
        return "expired"
    return "approved" if evidence.tally.enough else "pending"

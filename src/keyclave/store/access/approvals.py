"""Requests for approval and signatures, as rows. No rule is decided here, but that a request ends once."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import Conflict
from keyclave.store.access.approval_tables import approvals, signatures

_a = approvals.c


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as kept; `canonical` is sealed with the tenant's key, bound to the id. `ending` is empty while it is open.

    Times in microseconds; events are ids of the log.
    """

    id: str
    tenant: str
    operation: str
    requester: str
    canonical: bytes
    digest: bytes
    requested_at: int
    expires_at: int
    event: str
    ending: str = ""
    ended_at: int = 0
    ended_by: str = ""
    ended_why: str = ""
    ended_event: str = ""
    items_events: str = ""


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What an approver signed, and how."""

    approval: str
    approver: str
    authenticator: str
    statement: str
    proof: str
    signed_at: int
    event: str


def insert_approval(conn: Connection, approval: Approval) -> None:
    """Keep a new request."""
    asked = {name: getattr(approval, name) for name in _ASKED}
    conn.execute(approvals.insert(), asked)


def read_approval(conn: Connection, tenant: str, approval: str) -> Approval | None:
    """Return the request of that id within the tenant, or None."""
    row = conn.execute(select(approvals).where(_a.tenant == tenant, _a.id == approval)).first()
    return None if row is None else _approval(row)


def list_approvals(conn: Connection, tenant: str, after: str, limit: int, *, open_at: int | None = None) -> list[Approval]:
    """Return requests of a tenant by id after `after`; with `open_at`, those that have neither ended nor expired then."""
    query = select(approvals).where(_a.tenant == tenant, _a.id > after).order_by(_a.id).limit(limit)
    if open_at is not None:
        query = query.where(_a.ending.is_(None), _a.expires_at > open_at)
    return [_approval(row) for row in conn.execute(query)]


def count_open(conn: Connection, tenant: str, requester: str, now: int) -> int:
    """Return how many open requests somebody has."""
    query = select(_a.id).where(_a.tenant == tenant, _a.requester == requester, _a.ending.is_(None), _a.expires_at > now)
    return len(conn.execute(query).all())


def end_approval(conn: Connection, approval: str, how: str, at: int, by: str, why: str, event: str, items: str = "") -> bool:
    """End a request; False where it has ended already: of two who race, one ends it."""
    values: dict[str, Any] = {"ending": how, "ended_at": at, "ended_by": by, "ended_why": why or None, "ended_event": event}
    statement = update(approvals).where(_a.id == approval, _a.ending.is_(None))
    return conn.execute(statement.values(**values, items_events=items or None)).rowcount == 1


def insert_signature(conn: Connection, signature: Signature) -> None:
    """Add a signature. A second one of the same person, or one on a request that has ended, is `Conflict`."""
    try:
        conn.execute(signatures.insert(), msgspec.structs.asdict(signature))
    except IntegrityError:
        raise Conflict("this request cannot be signed by this approver any more", "see `keyclave approval show`") from None


def read_signatures(conn: Connection, approval: str) -> list[Signature]:
    """Return the signatures of a request in the order in which they were given."""
    query = select(signatures).where(signatures.c.approval == approval)
    return [Signature(**row._mapping) for row in conn.execute(query.order_by(signatures.c.signed_at, signatures.c.approver))]


_ASKED = ("id", "tenant", "operation", "requester", "canonical", "digest", "requested_at", "expires_at", "event")


def _approval(row: Row[Any]) -> Approval:
    return Approval(**{name: value for name, value in row._mapping.items() if value is not None})

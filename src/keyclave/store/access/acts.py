"""Acts of people on things, as rows: added with the act itself, read where separation of duties is judged."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec
from sqlalchemy import Connection, select

from keyclave.policy.apart import Act
from keyclave.store.access.act_tables import acts
from keyclave.store.insertions import Insertion, Row, Rows

_c = acts.c
_INSERT = Insertion(acts, ("tenant", "kind", "subject", "action", "principal", "at", "event"))


Done = tuple[str, str, str]
"""An action, the kind of thing it was done on, the thing."""


def insert_acts(conn: Connection, tenant: str, principal: str, at: int, event: str, done: Iterable[Done]) -> None:
    """Keep what somebody did."""
    _INSERT.run(conn, _rows(tenant, principal, at, event, done))


def add_acts(rows: Rows, tenant: str, principal: str, at: int, event: str, done: Iterable[Done]) -> None:
    """Let what somebody did wait to be kept."""
    rows.add(_INSERT, *_rows(tenant, principal, at, event, done))


def _rows(tenant: str, principal: str, at: int, event: str, done: Iterable[Done]) -> list[Row]:
    return [(tenant, kind, subject, action, principal, at, event) for action, kind, subject in done]


class DoneAct(msgspec.Struct, frozen=True):
    """One name of what an event did on one thing; `number` is its place among all acts."""

    number: int
    action: str
    kind: str
    subject: str


def read_done(conn: Connection, tenant: str) -> dict[str, list[DoneAct]]:
    """Return a tenant's acts by the event that says so. What was done before acts were kept names none."""
    query = select(_c.event, _c.number, _c.action, _c.kind, _c.subject).where(_c.tenant == tenant, _c.event.is_not(None))
    found: dict[str, list[DoneAct]] = {}
    for row in conn.execute(query.order_by(_c.number)):
        found.setdefault(row.event, []).append(DoneAct(row.number, row.action, row.kind, row.subject))
    return found


def read_acts_before(conn: Connection, tenant: str, kind: str, subject: str, actions: Collection[str], number: int) -> list[Act]:
    """Return what was done on a thing before the act of that number, in order, of these actions."""
    query = select(_c.action, _c.principal).where(_c.tenant == tenant, _c.kind == kind, _c.subject == subject)
    query = query.where(_c.action.in_(actions), _c.number < number).order_by(_c.number)
    return [Act(row.action, row.principal) for row in conn.execute(query)]


def read_acts(conn: Connection, tenant: str, kind: str, subject: str, actions: Collection[str]) -> list[Act]:
    """Return what was done on a thing, in order, of these actions."""
    query = select(_c.action, _c.principal).where(_c.tenant == tenant, _c.kind == kind, _c.subject == subject)
    return [Act(row.action, row.principal) for row in conn.execute(query.where(_c.action.in_(actions)).order_by(_c.number))]

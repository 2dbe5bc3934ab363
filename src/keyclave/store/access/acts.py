"""Acts of people on things, as rows: added with the act itself, read where separation of duties is judged.

That a key was made is said by the row of the key, which never changes in that: making one is the first act on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, select, true

from keyclave.policy.apart import Act
from keyclave.store.access.act_tables import acts
from keyclave.store.insertions import Insertion
from keyclave.store.schema import key_versions, keys

_c = acts.c
_k, _v = keys.c, key_versions.c
_INSERT = Insertion(acts, ("tenant", "kind", "subject", "action", "principal", "at", "event"))


Done = tuple[str, str, str]
"""An action, the kind of thing it was done on, the thing."""
MAKING = {"generated": "key-create", "imported": "key-import"}
"""The act that a key's own row says, by the origin of its first version: who made it, when, by which event."""
FIRST = 0
"""The number of that act: before it nothing can have been done on the key."""
_MADE = (
    select(_k.id, _k.made_in, _k.created_by, _v.origin)
    .join_from(keys, key_versions, and_(_v.key_id == _k.id, _v.number == 1))
    .where(_k.made_in.is_not(None))
)


def insert_acts(conn: Connection, tenant: str, principal: str, at: int, event: str, done: Iterable[Done]) -> None:
    """Keep what somebody did."""
    _INSERT.run(conn, [(tenant, kind, subject, action, principal, at, event) for action, kind, subject in done])


class DoneAct(msgspec.Struct, frozen=True):
    """One name of what an event did on one thing; `number` is its place among all acts, or `FIRST`."""

    number: int
    action: str
    kind: str
    subject: str


def read_done(conn: Connection, tenant: str) -> dict[str, list[DoneAct]]:
    """Return a tenant's acts by the event that says so. What was done before acts were kept names none."""
    found = {
        row.made_in: [DoneAct(FIRST, MAKING[row.origin], kind, subject) for kind, subject in _made(row.id)]
        for row in conn.execute(_MADE.where(_k.tenant == tenant))
    }
    query = select(_c.event, _c.number, _c.action, _c.kind, _c.subject).where(_c.tenant == tenant, _c.event.is_not(None))
    for row in conn.execute(query.order_by(_c.number)):
        found.setdefault(row.event, []).append(DoneAct(row.number, row.action, row.kind, row.subject))
    return found


def read_acts_before(conn: Connection, tenant: str, kind: str, subject: str, actions: Collection[str], number: int) -> list[Act]:
    """Return what was done on a thing before the act of that number, in order, of these actions."""
    return _acts(conn, tenant, kind, subject, actions, _c.number < number) if number > FIRST else []


def read_acts(conn: Connection, tenant: str, kind: str, subject: str, actions: Collection[str]) -> list[Act]:
    """Return what was done on a thing, in order, of these actions."""
    return _acts(conn, tenant, kind, subject, actions, true())


def _acts(
    conn: Connection, tenant: str, kind: str, subject: str, actions: Collection[str], which: ColumnElement[bool]
) -> list[Act]:
    query = select(_c.action, _c.principal).where(_c.tenant == tenant, _c.kind == kind, _c.subject == subject, which)
    later = [Act(row.action, row.principal) for row in conn.execute(query.where(_c.action.in_(actions)).order_by(_c.number))]
    key = subject.partition(":")[0]
    if (kind, subject) not in _made(key):
        return later
    row = conn.execute(_MADE.where(_k.tenant == tenant, _k.id == key)).first()
    made = [] if row is None or MAKING[row.origin] not in actions else [Act(MAKING[row.origin], row.created_by)]
    return made + later


def _made(key: str) -> tuple[tuple[str, str], ...]:
    """Return the things that making a key is done on: the key, and its first version."""
    return ("key", key), ("key-version", f"{key}:1")

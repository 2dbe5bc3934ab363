"""Where in the one log an event stands that some node numbered in its own count."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from keyclave.store import schema as s

_BEFORE = (
    select(s.segments.c.first, s.segments.c.count, s.segments.c.node_first)
    .where(s.segments.c.node == bindparam("node"), s.segments.c.node_first <= bindparam("number"))
    .order_by(s.segments.c.node_first.desc())
    .limit(1)
)


def find_place(conn: Connection, node: str, number: int) -> int | None:
    """Return the index in the log of event `number` of `node`, or None while it has no place."""
    row = conn.execute(_BEFORE, {"node": node, "number": number}).first()
    if row is None or number >= row.node_first + row.count:
        return None
    return int(row.first + number - row.node_first)

"""Where in the one log events stand, and what lies there: in a segment itself, or in the journal of the node that made them."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, literal, select, union_all

from keyclave.core.errors import Broken
from keyclave.store import node_tables as n
from keyclave.store import schema as s
from keyclave.store.entries import unpack

_KEEP = "stop, keep the database as evidence, and restore a backup"
_s, _j = s.segments.c, n.journal.c
_BEFORE = (
    select(_s.first, _s.count, _s.node_first)
    .where(_s.node == bindparam("node"), _s.node_first <= bindparam("number"))
    .order_by(_s.node_first.desc())
    .limit(1)
)
_START = select(func.max(_s.first)).where(_s.first <= bindparam("first"))
_RANGE = (_s.first >= bindparam("start"), _s.first < bindparam("end"))
_INLINE = select(_s.first.label("at"), _s.count.label("held"), _s.entries.label("entries")).where(
    *_RANGE, _s.entries.is_not(None)
)
_JOURNALED = (  # a segment may hold several rows of a journal
    select((_s.first + _j.first - _s.node_first).label("at"), _j.count, _j.entries)
    .join_from(s.segments, n.journal, (_j.node == _s.node) & (_j.first >= _s.node_first) & (_j.first < _s.node_first + _s.count))
    .where(*_RANGE, _s.entries.is_(None))
)
_ENTRIES = union_all(_INLINE, _JOURNALED).order_by("at")
_HEAD = select(_s.first + _s.count).order_by(_s.first.desc()).limit(1)
_HOLDS_IT_ITSELF = select(literal(1)).where(
    _s.first == bindparam("first"), _s.first + _s.count > bindparam("place"), _s.entries.is_not(None)
)
_IN_JOURNAL = select(literal(1)).where(
    _j.node == bindparam("node"), _j.first <= bindparam("number"), _j.first + _j.count > bindparam("number")
)


def head(conn: Connection) -> int:
    """Return how many events have a place in the log."""
    return int(conn.execute(_HEAD).scalar_one_or_none() or 0)


def read_log(conn: Connection, first: int, count: int) -> list[bytes]:
    """Return up to `count` entries from place `first`, in order."""
    start = conn.execute(_START, {"first": first}).scalar_one()
    if start is None:
        return []
    try:
        rows = conn.execute(_ENTRIES, {"start": start, "end": first + count})
        return unpack(((row[0], row[1], row[2]) for row in rows), first, count)
    except (TypeError, ValueError) as fault:
        raise Broken(f"the rows of the log do not hold what they say, from event {start} on: {fault}", _KEEP) from None


def find_place(conn: Connection, node: str, number: int, home: str) -> int | None:
    """Return the index in the log of event `number` of `node`, or None while it has no place.

    Those that name the `home` itself are numbered by their place: no journal holds them.
    """
    if node == home:
        start = conn.execute(_START, {"first": number}).scalar_one()
        held = start is not None and conn.execute(_HOLDS_IT_ITSELF, {"first": start, "place": number}).first() is not None
        return number if held else None
    row = conn.execute(_BEFORE, {"node": node, "number": number}).first()
    if row is None or number >= row.node_first + row.count:
        return None
    return int(row.first + number - row.node_first)


def in_journal(conn: Connection, node: str, number: int) -> bool:
    """Tell whether `node` has kept an event under that number, placed or not."""
    return conn.execute(_IN_JOURNAL.limit(1), {"node": node, "number": number}).first() is not None

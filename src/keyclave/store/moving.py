"""A store's rows into another store, on whatever engine: copied in an order that every guard accepts, and compared row by row.

What names a running process (`nodes`, `leases`) stays behind. Approvals are first copied open, then signed, then ended: that is
the order in which the guards let them come to be.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, func, select, update

from keyclave.core.errors import Broken
from keyclave.store import meta_rows, places, versions
from keyclave.store import node_tables as n
from keyclave.store import schema as s
from keyclave.store.access import act_tables, approval_tables, grant_tables, share_tables
from keyclave.store.columns import metadata
from keyclave.store.nodes import now_of
from keyclave.store.pg.connections import driver_of

_AT_ONCE = 500  # rows of one statement
_STAYS = (n.nodes.name, n.leases.name)
_OWN = (s.meta.name, n.change_counter.name)  # has rows of its own in a new store
_COUNTED = (act_tables.acts.name, share_tables.share_holders.name)  # whose rows the engine numbers
_ENDING = [c for c in approval_tables.approvals.c if c.name.startswith("end") or c.name == "items_events"]
_ORDER = {s.segments.name: s.segments.c.first, grant_tables.grants.name: grant_tables.grants.c.depth}


def tables() -> list[Table]:
    """Return the tables that move, each after those that it refers to."""
    return [table for table in metadata.sorted_tables if table.name not in _STAYS]


def _rows(conn: Connection, table: Table) -> Iterator[Row[Any]]:
    order = [_ORDER[table.name]] if table.name in _ORDER else []
    query = select(table).order_by(*order, *table.primary_key)
    return iter(conn.execute(query.execution_options(stream_results=True, yield_per=_AT_ONCE)))


def _chunks(rows: Iterator[Row[Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := [dict(row._mapping) for row in itertools.islice(rows, _AT_ONCE)]:
        yield chunk


def is_empty(conn: Connection) -> bool:
    """Tell whether a store holds nothing yet but its schema."""
    holding = [table for table in tables() if table.name not in _OWN]
    return all(conn.execute(select(table).limit(1)).first() is None for table in holding)


def copy(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every table; return how many rows of each."""
    counts: dict[str, int] = {}
    for table in tables():
        counts[table.name] = 0
        for chunk in _chunks(_rows(source, table)):
            counts[table.name] += len(chunk)
            if table is s.meta:
                for row in chunk:
                    if row["name"] not in versions.OWN_MARKS:
                        meta_rows.write_meta(target, row["name"], row["value"])
            elif table is n.change_counter:
                target.execute(update(table).values(n=chunk[0]["n"]))
            else:
                blank = {c.name: None for c in _ENDING} if table is approval_tables.approvals else {}
                _insert(target, table, [row | blank for row in chunk])
    _end_approvals(source, target)
    if target.dialect.name == "postgresql":
        for name in _COUNTED:
            _count_on(target, metadata.tables[name])
    return counts


def _insert(target: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, on PostgreSQL by COPY: every guard sees each of them all the same, at a tenth of the time."""
    if target.dialect.name != "postgresql":
        target.execute(table.insert(), rows)
        return
    quote = target.dialect.identifier_preparer.quote
    names = [c.name for c in table.c]
    columns = ", ".join(map(quote, names))
    with driver_of(target).cursor() as cursor, cursor.copy(f"COPY {quote(table.name)} ({columns}) FROM STDIN".encode()) as lines:
        for row in rows:
            lines.write_row([row[name] for name in names])


def _count_on(target: Connection, table: Table) -> None:
    """Have the next row numbered after those that were copied with their numbers.

    The servers' role may draw numbers and not set them, so as many are drawn as are taken.
    """
    last = target.execute(select(func.max(table.c.number))).scalar_one()
    if last is not None:
        drawn = func.nextval(func.pg_get_serial_sequence(table.name, "number"))
        target.execute(select(func.max(drawn)).select_from(func.generate_series(1, last)))


def _end_approvals(source: Connection, target: Connection) -> None:
    t = approval_tables.approvals
    ended = select(t.c.id, *_ENDING).where(t.c.ending.is_not(None))
    statement = update(t).where(t.c.id == bindparam("of")).values({c.name: bindparam(f"its_{c.name}") for c in _ENDING})
    for row in source.execute(ended):
        target.execute(statement, {"of": row.id} | {f"its_{c.name}": getattr(row, c.name) for c in _ENDING})


def place_rest(conn: Connection) -> int:
    """Give what lies in journals without a place its place, node by node, as the sequencer would; return how many events."""
    end = begin = places.head(conn)
    c, j = s.segments.c, n.journal.c
    placed = select(func.max(c.node_first + c.count)).where(c.node == bindparam("node"))
    for node in [row.node for row in conn.execute(select(j.node).distinct().order_by(j.node))]:
        done = conn.execute(placed, {"node": node}).scalar_one() or 0
        rows = conn.execute(select(j.first, j.count).where(j.node == node, j.first >= done).order_by(j.first)).all()
        for first, count in rows:
            segment = {"first": end, "count": count, "entries": None, "node": node, "node_first": first}
            conn.execute(s.segments.insert(), segment)
            end += count
    return end - begin


def compare(source: Connection, target: Connection) -> None:
    """Compare every row of both; `Broken` names the first table that differs."""
    for table in tables():
        pairs = itertools.zip_longest(_meant(source, table), _meant(target, table))
        for number, (here, there) in enumerate(pairs):
            if here != there:
                raise Broken(f"{table.name} differs at row {number} in the copy", "run the move again; nothing has changed")


def _meant(conn: Connection, table: Table) -> Iterator[Sequence[Any]]:
    for row in _rows(conn, table):
        if table is not s.meta or row.name not in versions.OWN_MARKS:
            yield tuple(row)


def extent(conn: Connection) -> tuple[int, int]:
    """Return what grows with everything that is done, on either engine: how many events are kept, and the last change."""
    inline = select(func.sum(s.segments.c.count)).where(s.segments.c.entries.is_not(None))
    journaled = select(func.sum(n.journal.c.count))
    events = sum(int(conn.execute(query).scalar_one() or 0) for query in (inline, journaled))
    return events, int(conn.execute(select(n.change_counter.c.n)).scalar_one())


def serving(conn: Connection) -> list[str]:
    """Return the nodes whose lease is not over, or that may still decrypt after it, by the database's clock."""
    c = n.nodes.c
    until = c.lease_until + c.stale + c.stale / 4  # as long as a change would wait for them
    return [row.id for row in conn.execute(select(c.id).where(until > now_of(conn), c.left_at.is_(None)).order_by(c.id))]

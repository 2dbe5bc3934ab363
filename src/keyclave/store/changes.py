"""The log of changes: what every writer of a store must drop from memory, in the order of the commits.

The number comes from the one row of `change_counter`, updated in the writing transaction itself. A sequence would not do: its
order is not that of the commits, and a reader who asks for what is beyond the last number it saw would miss rows.
"""

from __future__ import annotations

import time

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from keyclave.store import node_tables as t
from keyclave.store.interface import Names

_COUNTER = select(t.change_counter.c.n)
_COUNT = update(t.change_counter).values(n=t.change_counter.c.n + 1).returning(t.change_counter.c.n)
_SINCE = select(t.changes.c.n, t.changes.c.names).where(t.changes.c.n > bindparam("after")).order_by(t.changes.c.n)

KEPT = 86_400 * 1_000_000  # microseconds that rows are kept: no writer is so far behind and alive


def last_change(conn: Connection) -> int:
    """Return the number of the last change."""
    return int(conn.execute(_COUNTER).scalar_one())


def read_changes(conn: Connection, after: int) -> tuple[int, Names]:
    """Return the number of the last change and what was changed since number `after`, in order."""
    n = last_change(conn)
    names: Names = []
    if n > after:
        for row in conn.execute(_SINCE, {"after": after}):
            names += msgspec.json.decode(row.names, type=Names)
    return n, names


def keep_changes(conn: Connection, node: str, names: Names) -> int:
    """Inside the transaction that changed `names`: say so to every other writer; return the number of the change."""
    n = int(
        conn.execute(_COUNT).scalar_one()
    )  # from here on the row is locked: whoever changes something next comes after this commit
    at = time.time_ns() // 1000
    conn.execute(t.changes.insert(), {"n": n, "node": node, "at": at, "names": msgspec.json.encode(names).decode()})
    return n


def forget_changes(conn: Connection, now: int) -> None:
    """Drop rows that every writer alive has applied long ago."""
    conn.execute(t.changes.delete().where(t.changes.c.at < now - KEPT))

"""For how long after their leases nodes may decrypt by what was before a change, as the change's own transaction sees it."""

from __future__ import annotations

from sqlalchemy import Connection, func, literal, select

from keyclave.keys.model import Stale
from keyclave.store import node_tables as t
from keyclave.store import schema as s

_LONGEST = select(func.coalesce(func.max(t.nodes.c.stale), 0)).where(t.nodes.c.left_at.is_(None))
_EVER = select(literal(1)).where(s.keys.c.stale != literal(Stale.NEVER.value, literal_execute=True)).limit(1)


def read_reach(conn: Connection) -> int:
    """Return microseconds: the most that a row of a node claims which has not left, if some key allows or allowed stale use.

    Inside a transaction that holds the counter's lock no node can announce itself meanwhile: see `nodes.renew`. Rows of nodes
    that died count as well: how long they have been silent is for the barrier to say, by a clock that nobody sets.
    """
    longest = int(conn.execute(_LONGEST).scalar_one())
    return longest if longest and conn.execute(_EVER).first() is not None else 0

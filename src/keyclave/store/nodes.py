"""The rows by which nodes know of each other: who there is and what each has applied, and the leases that one at a time may hold.

Times are the database's (`clock_timestamp()` on PostgreSQL; on SQLite that is this machine's clock), so that nodes whose clocks
differ write comparable rows. No safety rests on them: see `keyclave.operations.nodes.barrier` and the fence below.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    LargeBinary,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)

from keyclave.store import node_tables as t
from keyclave.store import schema, versions
from keyclave.store.interface import Names

MICROSECONDS = 1_000_000
GONE_FOR_GOOD = 7 * 86_400 * MICROSECONDS  # after so long a silent node's row is dropped
_TOO_NEW = and_(schema.meta.c.name == versions.SCHEMA_MIN, schema.meta.c.value > bindparam("program", type_=LargeBinary))
_SERVED = not_(exists().where(or_(schema.meta.c.name == versions.MOVED, _TOO_NEW)))


class Node(msgspec.Struct, frozen=True):
    """One process that serves, or has served: times in microseconds by the database's clock, `skew` its clock before that.

    `stale`: for how long after its lease it may decrypt with keys that allow it; `spool`: the journal that its newest spool was
    placed in, or None.
    """

    id: str
    address: str
    version: str
    schema: str
    started_at: int
    seen_at: int
    applied: int
    lease_until: int
    skew: int
    sealed: bool
    draining: bool
    left_at: int | None = None
    stale: int = 0
    spool: str | None = None


def now_of(conn: Connection) -> Any:
    """Return the database's time as an expression: microseconds since the epoch."""
    if conn.dialect.name == "postgresql":
        return _CLOCK
    return literal(time.time_ns() // 1000, BigInteger)


_CLOCK = cast(func.extract("epoch", func.clock_timestamp()) * MICROSECONDS, BigInteger)
_RENEW = (
    update(t.nodes)
    .where(t.nodes.c.id == bindparam("is"), _SERVED, t.nodes.c.stale == bindparam("beyond"), t.nodes.c.left_at.is_(None))
    .values(
        seen_at=_CLOCK, applied=bindparam("done"), lease_until=_CLOCK + bindparam("so_long", type_=BigInteger),
        skew=bindparam("off"), sealed=bindparam("shut"), draining=bindparam("going"),
    )
)  # fmt: skip
_NODES = select(t.nodes).order_by(t.nodes.c.started_at, t.nodes.c.id)
_BEYOND = t.changes.c.n > bindparam("after"), t.changes.c.n <= t.change_counter.c.n
_NEWS = (  # one statement, so one snapshot
    select(t.change_counter.c.n, t.changes.c.n.label("number"), t.changes.c.node, t.changes.c.names)
    .select_from(t.change_counter.outerjoin(t.changes, and_(*_BEYOND)))
    .order_by(t.changes.c.n)
)
_NEWS_AND_TIME = _NEWS.add_columns(_CLOCK.label("now"))


def database_time(conn: Connection) -> int:
    """Return the database's time."""
    return int(conn.execute(select(now_of(conn))).scalar_one())


# ---- nodes ----------------------------------------------------------------------------------------------------------------
def renew(conn: Connection, node: Node, lease: int) -> bool:
    """Write what a node says of itself, its row's lease `lease` microseconds long from now. The first time it joins.

    Return whether the row was there and said the same of stale use. If not, it is written under the lock of the change counter:
    so each change either sees the row, or is seen by every question that the node asks afterwards. Whoever has left comes back
    by this as well: an id is a process's for as long as that runs. On a store that was moved away nobody's row is renewed: a
    node that was frozen meanwhile must not serve what is somewhere else now. Nor is that of a program for which the schema has
    become too new, while it ran.
    """
    told = {
        "is": node.id, "so_long": lease, "done": node.applied, "off": node.skew, "shut": node.sealed, "going": node.draining,
        "beyond": node.stale, "program": versions.revision().encode(),
    }  # fmt: skip
    now = now_of(conn)
    again = _RENEW if now is _CLOCK else _RENEW.values(seen_at=now, lease_until=now + lease)
    if conn.execute(again, told).rowcount:
        return True
    versions.check_still(conn)
    fixed = {"address": node.address, "version": node.version, "schema": node.schema, "started_at": now}
    said = {
        "seen_at": now, "applied": node.applied, "lease_until": now + lease, "skew": node.skew, "sealed": node.sealed,
        "draining": node.draining, "left_at": None, "stale": node.stale,
    }  # fmt: skip
    program = {"program": told["program"]}
    _begin(conn)
    try:
        if not conn.execute(update(t.nodes).where(t.nodes.c.id == node.id, _SERVED).values(said), program).rowcount:
            conn.execute(t.nodes.insert().values(id=node.id, **fixed, **said))
    except BaseException:
        if not conn.closed:
            conn.exec_driver_sql("ROLLBACK")
        raise
    conn.exec_driver_sql("COMMIT")
    return False


def _begin(conn: Connection) -> None:
    """Begin a transaction beside which nobody changes anything."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("BEGIN")
        conn.exec_driver_sql("LOCK TABLE change_counter IN SHARE ROW EXCLUSIVE MODE")
    else:
        conn.exec_driver_sql("BEGIN IMMEDIATE")


def leave(conn: Connection, node: str) -> None:
    """A node goes, and uses nothing any more: nobody waits for it. What it held goes to the next."""
    now = now_of(conn)
    conn.execute(update(t.nodes).where(t.nodes.c.id == node).values(left_at=now, lease_until=now))
    conn.execute(update(t.leases).where(t.leases.c.holder == node).values(until=0))


def give_up(conn: Connection, node: str, seen_at: int) -> None:
    """Let nobody wait any more for a node whose row has stood still for too long, if it still does.

    If it comes back its next renewal finds the row so, and only announces it: see `renew`.
    """
    still = and_(t.nodes.c.id == node, t.nodes.c.seen_at == seen_at, t.nodes.c.left_at.is_(None))
    conn.execute(update(t.nodes).where(still).values(left_at=now_of(conn)))


def read_nodes(conn: Connection) -> list[Node]:
    """Return every node, in the order of their starts."""
    return [Node(**row) for row in conn.execute(_NODES).mappings()]


def forget_nodes(conn: Connection) -> None:
    """Drop the rows of nodes that have been silent for a week; their journals stay."""
    conn.execute(t.nodes.delete().where(t.nodes.c.seen_at < now_of(conn) - GONE_FOR_GOOD))


# ---- changes --------------------------------------------------------------------------------------------------------------
def read_news(conn: Connection, after: int, me: str) -> tuple[int, list[tuple[int, Names]], int]:
    """Return the counter, one by one the changes since number `after`, and the time.

    Changes that `me` made itself name nothing.
    """
    if conn.dialect.name == "postgresql":
        rows = conn.execute(_NEWS_AND_TIME, {"after": after}).all()
        now = rows[0].now
    else:
        rows, now = conn.execute(_NEWS, {"after": after}).all(), time.time_ns() // 1000
    found = [
        (int(row.number), [] if row.node == me else msgspec.json.decode(row.names, type=Names))
        for row in rows
        if row.number is not None
    ]
    return int(rows[0].n), found, int(now)


# ---- leases ---------------------------------------------------------------------------------------------------------------
def take_lease(conn: Connection, name: str, holder: str, length: int) -> int | None:
    """Take a lease that nobody holds, for `length` microseconds; return its fence, or None while somebody else has it."""
    now = now_of(conn)
    row = conn.execute(select(t.leases.c.holder, t.leases.c.fence, t.leases.c.until).where(t.leases.c.name == name)).first()
    if row is None:
        conn.execute(t.leases.insert().values(name=name, holder=holder, fence=1, until=now + length))
        return 1
    took = (
        update(t.leases)
        .where(t.leases.c.name == name, t.leases.c.fence == row.fence, or_(t.leases.c.until < now, t.leases.c.holder == holder))
        .values(holder=holder, fence=row.fence + 1, until=now + length)
    )
    return row.fence + 1 if conn.execute(took).rowcount else None


def lease_holder(conn: Connection, name: str) -> str:
    """Return who holds a lease by the database's clock, or nobody: an empty name."""
    held = select(t.leases.c.holder).where(t.leases.c.name == name, t.leases.c.until > now_of(conn))
    return conn.execute(held).scalar_one_or_none() or ""


def hold_lease(conn: Connection, name: str, holder: str, fence: int, length: int) -> bool:
    """Prolong a lease, inside the transaction that rests on it; False if somebody else has taken it, or may have.

    The row stays locked until the transaction ends: whoever takes the lease meanwhile does it before or after, never within.
    """
    mine = and_(t.leases.c.name == name, t.leases.c.holder == holder, t.leases.c.fence == fence)
    return conn.execute(update(t.leases).where(mine).values(until=now_of(conn) + length)).rowcount == 1


def give_lease(conn: Connection, name: str, holder: str, fence: int) -> None:
    """Give a lease back, so that the next holder need not wait for its end."""
    mine = and_(t.leases.c.name == name, t.leases.c.holder == holder, t.leases.c.fence == fence)
    conn.execute(update(t.leases).where(mine).values(until=0))

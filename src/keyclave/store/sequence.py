"""What the sequencer reads and writes: journals beyond what has a place, and the places it gives.

Nothing is placed twice: a place is a primary key, and so is (node, node_first) among the places. Nothing is left out: what is
beyond the last place of its journal is read again until it has one, whoever reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, select, text, union_all

from keyclave.store import node_tables as t
from keyclave.store import schema as s
from keyclave.store.entries import unpack
from keyclave.store.log_rows import keep_checkpoint, keep_tiles
from keyclave.store.nodes import hold_lease

ROWS = 512  # of one journal, read at a time
_j = t.journal.c
_BACKLOG = text(  # each journal is found by one step in the index, however long they are
    """
    WITH RECURSIVE writers AS (
        SELECT min(node) AS node FROM journal
        UNION ALL
        SELECT (SELECT min(j.node) FROM journal j WHERE j.node > writers.node) FROM writers WHERE writers.node IS NOT NULL
    ), ends AS (
        SELECT node,
            (SELECT j.first + j.count FROM journal j WHERE j.node = writers.node ORDER BY j.first DESC LIMIT 1) AS head,
            coalesce((
                SELECT s.node_first + s.count FROM segments s WHERE s.node = writers.node ORDER BY s.node_first DESC LIMIT 1
            ), 0) AS placed
        FROM writers WHERE node IS NOT NULL
    )
    SELECT node, placed FROM ends WHERE head > placed ORDER BY node
    """
)
_KEPT = (
    select(_j.first, _j.count.label("number"), _j.entries)
    .where(_j.node == bindparam("node"), _j.first <= bindparam("number"))
    .order_by(_j.first.desc())
    .limit(1)
)
_PLACE = text(  # one statement however many they are: the guards see its rows one after the other all the same
    "INSERT INTO segments (first, count, node, node_first) SELECT * FROM "
    "unnest(CAST(:first AS bigint[]), CAST(:count AS integer[]), CAST(:node AS text[]), CAST(:node_first AS bigint[]))"
)
_PLACED = (
    select(s.segments.c.node_first + s.segments.c.count)
    .where(s.segments.c.node == bindparam("node"))
    .order_by(s.segments.c.node_first.desc())
    .limit(1)
)


@cache
def _beyond(journals: int) -> Any:
    """Return the query for so many journals: a range in the index for each."""
    parts = [
        select(_j.node, _j.first, _j.count.label("number"), _j.entries)
        .where(_j.node == bindparam(f"node{i}"), _j.first >= bindparam(f"first{i}"))
        .order_by(_j.first)
        .limit(ROWS)
        .subquery()
        for i in range(journals)
    ]
    return union_all(*(select(part) for part in parts))


class LostLease(Exception):
    """Another node is the sequencer now: what this one was about to write is not written."""


def read_backlog(conn: Connection) -> dict[str, int]:
    """Return of every node that ever kept anything, and has not all of it placed, how many of its events have a place."""
    return {row.node: int(row.placed) for row in conn.execute(_BACKLOG)}


def read_placed(conn: Connection, node: str) -> int:
    """Return how many of a node's events have a place."""
    return int(conn.execute(_PLACED, {"node": node}).scalar_one_or_none() or 0)


def read_unplaced(conn: Connection, placed: Mapping[str, int]) -> list[tuple[str, int, int, bytes]]:
    """Return journal rows (node, first, count, packed entries) beyond `placed`: of each journal at most `ROWS`, in order."""
    if not placed:
        return []
    asked: dict[str, str | int] = {}
    for i, (node, first) in enumerate(placed.items()):
        asked[f"node{i}"], asked[f"first{i}"] = node, first
    rows = [(row.node, row.first, row.number, bytes(row.entries)) for row in conn.execute(_beyond(len(placed)), asked)]
    return sorted(rows, key=lambda row: row[:2])


def read_promised(conn: Connection, node: str, number: int) -> bytes | None:
    """Return the event that a node has kept under that number of its own, placed or not."""
    row = conn.execute(_KEPT, {"node": node, "number": number}).first()
    if row is None or number >= row.first + row.number:
        return None
    return unpack([(row.first, row.number, bytes(row.entries))], number, 1)[0]


def place(
    conn: Connection,
    lease: tuple[str, str, int, int],
    places: list[tuple[int, int, str, int]],
    tiles: Mapping[tuple[int, int], bytes],
) -> None:
    """Inside a transaction: keep places (first, count, node, node_first) and full tiles, if the lease still holds.

    `lease` is (name, holder, fence, microseconds). It is asked last, so its row is locked for no longer than the commit takes.
    """
    names = "first", "count", "node", "node_first"
    if conn.dialect.name == "sqlite":
        conn.execute(s.segments.insert(), [dict(zip(names, row, strict=True)) for row in places])
    else:
        conn.execute(_PLACE, dict(zip(names, map(list, zip(*places, strict=True)), strict=True)))
    keep_tiles(conn, tiles)
    if not hold_lease(conn, *lease):
        raise LostLease


def keep_signed(conn: Connection, lease: tuple[str, str, int, int], size: int, root: bytes, note: str, at: int) -> None:
    """Inside a transaction: keep a signed checkpoint, if the lease still holds."""
    keep_checkpoint(conn, size, root, note, at)
    if not hold_lease(conn, *lease):
        raise LostLease

"""How many events a second the sequencer gives places to: journals of three nodes, one event to a commit, and sixteen."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from bench.database import database_server, new_database
from bench.prefill import EVENT
from bench.table import Row, at_least
from keyclave.operations.nodes.sequencer import LEASE, Sequencer
from keyclave.store import nodes
from keyclave.store.entries import pack
from keyclave.store.node_tables import journal
from tests.postgres import APP, Database

_WRITERS = "a" * 16, "b" * 16, "c" * 16
_LEASE = 1 << 40  # microseconds


def measure(folder: Path, events: int) -> dict[int, float]:
    """Return events a second by how many share a commit."""
    found = {}
    with database_server() as server:
        for together in (1, 16):
            found[together] = _placed(new_database(server, f"placing{together}"), events, together)
    return found


def _placed(database: Database, events: int, together: int) -> float:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: database.server.connect(database.name, APP), poolclass=NullPool
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        for writer in _WRITERS:
            _keep(conn, writer, events // len(_WRITERS), together)
        fence = nodes.take_lease(conn, LEASE, "s" * 16, _LEASE)
        assert fence is not None
        sequencer, began, placed = Sequencer(conn, "s" * 16, fence, _LEASE), time.monotonic(), 0
        while found := sequencer.look():
            placed += found
        return placed / (time.monotonic() - began)


def _keep(conn: Connection, node: str, events: int, together: int) -> None:
    at = time.time_ns() // 1000
    rows = []
    for first in range(0, events, together):
        entries = [(EVENT % (at + number, node, number)).encode() for number in range(first, first + together)]
        rows.append({"node": node, "first": first, "count": together, "entries": pack(entries)})
    for begin in range(0, len(rows), 500):
        conn.execute(journal.insert(), rows[begin : begin + 500])


def rows(seen: dict[int, float], events: int) -> list[Row]:
    """Return the rate at sixteen to a commit: three nodes that make 20,000 events a second have thirteen in each of 2 ms."""
    said = ", ".join(f"{together} to a commit {rate:,.0f}/s" for together, rate in seen.items())
    how = f"{events:,} events of {len(_WRITERS)} nodes, {said}; read, hashed into the tree, placed with their tiles, synchronous commits"
    return [Row("sequencer_events", seen[16], "events/s", how, target=at_least(20_000))]

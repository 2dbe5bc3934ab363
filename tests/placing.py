"""Gives events their places on PostgreSQL for a desk that runs without a node's threads: each time just before somebody reads the log."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from keyclave.operations.nodes.sequencer import LEASE, Sequencer
from keyclave.store import nodes
from keyclave.store.pg.connections import open_connection, open_engine
from keyclave.store.postgres import PostgresStore

_HOUR = 3_600_000_000  # microseconds: nobody else sequences here


class Places:
    """The sequencer of a store's database, on a connection of its own."""

    def __init__(self, store: PostgresStore) -> None:
        self._engine = open_engine(store.address)
        self._conn = open_connection(self._engine)
        fence = nodes.take_lease(self._conn, LEASE, store.node, _HOUR)
        assert fence is not None
        self._sequencer = Sequencer(self._conn, store.node, fence, _HOUR)
        self._sequencer._looked = inf  # where it looks is said here: a desk without a node's threads has no row among the nodes
        self._sequencer._backlog = {store.node: 0}

    def give(self) -> None:
        """Place everything that is durable."""
        while self._sequencer.look():
            pass

    def close(self) -> None:
        """Let go of the connection."""
        self._conn.close()
        self._engine.dispose()


def placed_when_read(store: PostgresStore) -> Places:
    """Have whoever reads the log of `store`, or asks for its length, find all of it."""
    places = Places(store)
    read_entries, placed = store.read_entries, store.placed

    def read_all(first: int, count: int) -> Sequence[bytes]:
        places.give()
        return read_entries(first, count)

    def all_placed() -> int:
        places.give()
        return placed()

    changed: Any = store
    changed.read_entries, changed.placed = read_all, all_placed
    return places

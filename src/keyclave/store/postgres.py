"""The store of many nodes: PostgreSQL, written by one process's loop and its writing thread, with group commit.

    enqueue -> pg.writing            units wait on the loop, go in groups, and are told
               -> pg.lane            events alone: sent and answered on the loop itself
               -> pg.thread          the rest, and what went wrong on the lane
                  -> pg.journal      what a group is in the database
                     -> pg.outcome   whether a commit happened whose connection was lost
    read, write -> pg.transactions   snapshots and short writes of any thread

A commit that the server reports with a warning did not wait for its standby (somebody cancelled the wait): it is told as unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from keyclave.core.errors import Broken
from keyclave.store import log_rows, meta_rows, places
from keyclave.store.changes import last_change, read_changes
from keyclave.store.interface import Names
from keyclave.store.pg import checks, deadlines, faults
from keyclave.store.pg.address import Address
from keyclave.store.pg.connections import READERS, Connections
from keyclave.store.pg.journal import Journal
from keyclave.store.pg.transactions import Transactions
from keyclave.store.pg.writing import Writing

T = TypeVar("T")


class _Untold(dict[tuple[int, int], bytes]):
    """Full tiles of a tree that follows: the sequencer has kept them together with the places of their entries."""

    def __setitem__(self, key: tuple[int, int], value: bytes) -> None:
        return


class PostgresStore:
    """One process's way to the database."""

    shared = True
    sequenced = True
    failing = False  # a node whose commits fail cannot renew its lease either, and that says so

    def __init__(
        self,
        address: Address,
        node: str,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        development: bool = False,
        cluster: str | None = None,
        readers: int = READERS,
    ) -> None:
        """Connect as `node`, a name that no process had before. `loop` is where units come from and are told; without it nothing
        is answered but by `flush`. `cluster` is whose database it has to be; `readers`, how many connections it may read with.
        """
        self.node = node
        self.address = address
        self.waiting_tiles: dict[tuple[int, int], bytes] = _Untold()
        self._follow: Callable[[int, Sequence[bytes]], None] = lambda first, entries: None
        self._apply: Callable[[Names], None] = lambda names: None
        self._connections = Connections(address, loop, readers)
        self._transactions = Transactions(self._connections)
        try:
            self._check(development, cluster)
        except faults.FAULTS as fault:
            self._connections.close()
            raise faults.refused(fault, address.shown) from None
        except BaseException:
            self._connections.close()
            raise
        journal = Journal(node, self._connections, self._transactions)
        self._writing = Writing(node, journal, self._connections, loop)
        # called for every request: bound here, so that they cost no call of their own
        self.read, self.write = self._transactions.read, self._transactions.write
        self.enqueue, self.flush = self._writing.enqueue, self._writing.flush

    def _check(self, development: bool, cluster: str | None) -> None:
        """Serve only a database that keeps what it has answered; see where its log and its changes stand."""
        with self._connections.lend(deadlines.READ_SECONDS) as conn, self._connections.lend(deadlines.READ_SECONDS) as other:
            checks.check_sessions(conn, other)
        with self._connections.lend(deadlines.WRITE_SECONDS) as conn:
            checks.check(conn, development=development, cluster=cluster)
            self.home = (meta_rows.read_meta(conn, "node") or b"").decode()
            self._followed = places.head(conn)
            self._applied = last_change(conn)

    @property
    def gone(self) -> bool:
        """Whether the database is known not to answer."""
        return self._connections.gone

    @property
    def next_event(self) -> int:
        """The number that this node's next event will get."""
        return self._writing.next_event

    # ---- the log and the others -------------------------------------------------------------------------------------------
    def placed(self) -> int:
        """Return how many events have a place in the log."""
        return self._transactions.single(places.head)

    def read_entries(self, first: int, count: int) -> Sequence[bytes]:
        """Return up to `count` encoded events from place `first`."""
        return self.read(lambda conn: places.read_log(conn, first, count))

    def find_place(self, node: str, number: int) -> int | None:
        """Return where in the log the event stands that `node` numbered so, or None while it has no place.

        Those of a home that lived on SQLite before are numbered by their place.
        """
        return self.read(lambda conn: places.find_place(conn, node, number, self.home))

    def is_promised(self, node: str, number: int) -> bool:
        """Tell whether the event is durable in its node's journal, with a place or not."""
        return self._transactions.single(lambda conn: places.in_journal(conn, node, number))

    def followed_by(self, follow: Callable[[int, Sequence[bytes]], None], size: int) -> None:
        """Hand what gets its place in the log on to `follow`, from place `size` on."""
        self._follow, self._followed = follow, size

    def catch_up(self) -> None:
        """Follow what has got its place in the log. Only on the loop."""
        end = self.placed()
        while self._followed < end:
            found = list(self.read_entries(self._followed, min(4096, end - self._followed)))
            if not found:
                raise Broken("the log has a gap", "stop, keep the database as evidence, and verify an export")
            self._follow(self._followed, found)
            self._followed += len(found)

    def applied_by(self, apply: Callable[[Names], None]) -> None:
        """Tell `apply` what others have changed, when `meet_others` asks."""
        self._apply = apply

    def meet_others(self) -> None:
        """Apply now what others have changed. Only on the loop."""
        n, names = self.read(lambda conn: read_changes(conn, self._applied))
        if names:
            self._apply(names)
        self._applied = n

    # ---- the log's own rows -----------------------------------------------------------------------------------------------
    def read_tile(self, level: int, number: int) -> bytes | None:
        """Return a full tile, or None."""
        return self._transactions.single(lambda conn: log_rows.read_tile(conn, level, number))

    def keep_checkpoint(self, size: int, root: bytes, note: str, at: int) -> None:
        """Keep a signed checkpoint; where one of that size or a larger one is kept, that one stays."""
        self.write(lambda conn: log_rows.keep_checkpoint(conn, size, root, note, at))

    def last_checkpoint(self, size: int | None = None) -> tuple[int, bytes, str] | None:
        """Return (size, root, note) of the newest checkpoint, or of the one of that size."""
        return self._transactions.single(lambda conn: log_rows.last_checkpoint(conn, size))

    def last_signed_at(self) -> int:
        """Return the date of the newest checkpoint, in microseconds; 0 where there is none."""
        return self._transactions.single(log_rows.last_signed_at)

    def checkpoint_sizes(self, after: int, limit: int) -> list[int]:
        """Return the sizes of kept checkpoints greater than `after`."""
        return self._transactions.single(lambda conn: log_rows.checkpoint_sizes(conn, after, limit))

    def last_tile(self, level: int = 0) -> int:
        """Return how many full tiles of a level are kept."""
        return self._transactions.single(lambda conn: log_rows.last_tile(conn, level))

    # ---- upkeep -----------------------------------------------------------------------------------------------------------
    def tidy(self) -> None:
        """Nothing: the database looks after itself."""

    def rewind(self) -> None:
        """Nothing: the database looks after itself."""

    def close(self) -> None:
        """Decide what waits, tell it, and close every connection."""
        try:
            self._writing.close()
        finally:
            self._connections.close()

"""The loop's side of writing: units wait, go in groups, and are told. The event loop never waits for the database.

Units wait until the group before them is decided; so a crowd shares a commit and a lone request does not wait for company. Groups
of events alone are sent and answered on the loop itself (`Lane`); the rest are handed to the writing thread. One group is under
way at any time, for this node numbers its events itself and leaves no gap. Whoever came first goes first: so neither kind
starves, and no change overtakes an event that waited before it. A revocation is kept, and answered, after the uses judged
before it. What goes wrong with the loop's own statement is the thread's matter, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable

import psycopg

from keyclave.store.entries import pack
from keyclave.store.interface import Unit
from keyclave.store.pg import deadlines, faults
from keyclave.store.pg.connections import Connections
from keyclave.store.pg.journal import Journal
from keyclave.store.pg.lane import Lane, Unconfirmed
from keyclave.store.pg.outcome import UnknownOutcome
from keyclave.store.pg.thread import Decided, WritingThread
from keyclave.store.savepoints import tell

logger = logging.getLogger("keyclave.store")

GROUP = 512  # units of one commit, at most


class Writing:
    """`loop` is where units come from and are told; without it nothing is answered but by `flush`."""

    def __init__(self, node: str, journal: Journal, connections: Connections, loop: asyncio.AbstractEventLoop | None) -> None:
        self._node = node
        self._journal = journal
        self._connections = connections
        self._loop = loop
        self._events: deque[tuple[int, Unit]] = deque()  # what waits, and asks nothing of the database, by when it came
        self._rest: deque[tuple[int, Unit]] = deque()  # what waits, and needs a transaction
        self._came = 0  # units, so far
        self._refused: deque[Unit] = deque()
        self._ahead = 0  # events of units that are not decided yet
        self._under_way = False  # whether a group is
        self._woken = False
        self._thread = WritingThread(journal, self._decided)

    # ---- waiting ----------------------------------------------------------------------------------------------------------
    @property
    def next_event(self) -> int:
        """The number that this node's next event will get."""
        return self._journal.first + self._ahead

    def enqueue(self, unit: Unit) -> int:
        """Take a unit into the next group; return the number its first event will have, unless others go before it."""
        if self._connections.gone:
            self._refused.append(unit)
            self._soon(self._refuse)
            return self._journal.first
        first = self._journal.first + self._ahead
        self._ahead += unit.events
        self._came += 1
        (self._rest if unit.asks else self._events).append((self._came, unit))
        if not self._woken:
            self._woken = True
            self._soon(self._wake)
        return first

    def _soon(self, fn: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon(fn)

    def _wake(self) -> None:
        """At the end of a turn of the loop: what came in together goes together."""
        self._woken = False
        self._depart()

    def _refuse(self) -> None:
        """Tell those that came while the database was known to be gone."""
        while self._refused:
            tell([self._refused.popleft()], faults.gone())

    # ---- going ------------------------------------------------------------------------------------------------------------
    def _depart(self) -> None:
        """Let a group of what waits go, unless one is under way."""
        if self._under_way or not (self._events or self._rest):
            return
        self._under_way = True
        events, rest = (waiting[0][0] if waiting else self._came + 1 for waiting in (self._events, self._rest))
        group: list[Unit] = []
        if events < rest:
            while self._events and len(group) < GROUP:
                group.append(self._events.popleft()[1])
        else:
            while self._rest and self._rest[0][0] < events and len(group) < GROUP:
                group.append(self._rest.popleft()[1])
        lane = self._connections.lane() if events < rest and not self._journal.unsure else None
        if lane is None or not self._fly(lane, group):
            self._thread.hand(group)

    def _fly(self, lane: Lane, group: list[Unit]) -> bool:
        """Send events on the loop's own connection; False if they cannot even be written down."""
        first = self._journal.first
        leaves: list[bytes] = []
        try:
            for unit in group:
                leaves += unit.keep(first + len(leaves))
        except Exception:
            logger.exception("events could not be written down")
            return False
        packed = pack(leaves)
        row = UnknownOutcome(self._node, first, packed, len(leaves))
        lane.keep(
            self._node,
            first,
            len(leaves),
            packed,
            deadlines.WRITE_SECONDS,
            lambda fault, lost: self._landed(group, row, fault, lost),
        )
        return True

    def _landed(self, group: list[Unit], row: UnknownOutcome, fault: psycopg.Error | None, lost: bool) -> None:
        """The loop's own statement is answered, or its connection lost."""
        if fault is None:
            self._journal.first += row.count
            self._settle([(unit, None) for unit in group])
            return
        self._journal.unsure = True
        if isinstance(fault, Unconfirmed):
            logger.error("the database committed with a warning: %s", fault)
            self._settle([(unit, faults.unavailable()) for unit in group])
            return
        if faults.state_of(fault) == faults.READ_ONLY:
            self._connections.lose()
        self._thread.hand(group, row if lost else None)

    # ---- being told -------------------------------------------------------------------------------------------------------
    def _decided(self) -> None:
        """On the thread: have the loop take what became of the group."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: what is left is told by `close`
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        decided = self._thread.take()
        if decided is not None:
            self._settle(decided)

    def _settle(self, decided: Decided) -> None:
        """A group is decided: let the next one go, and tell the units of this one, in order, while the database works."""
        self._ahead -= sum(unit.events for unit, _ in decided)
        self._under_way = False
        self._depart()
        for unit, failure in decided:
            tell([unit], failure)

    def flush(self) -> None:
        """Wait until everything that waits is decided, and tell it."""
        self._woken = False
        deadline = time.monotonic() + deadlines.FLUSH_SECONDS
        self._refuse()
        while self._under_way or self._events or self._rest:
            self._depart()
            left = deadline - time.monotonic()
            if left <= 0:
                raise faults.unavailable()
            if not self._connections.finish(left):
                self._thread.wait(left)
                self._take()

    def close(self) -> None:
        """Decide what waits, tell it, and end the thread."""
        try:
            self.flush()
        finally:
            self._thread.close(deadlines.FLUSH_SECONDS)

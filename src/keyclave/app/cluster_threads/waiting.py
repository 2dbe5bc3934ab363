"""The barrier's thread: changes made here wait until no other node can act on what was before them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import Connection

from keyclave.app.cluster_threads.ground import Ground, Part
from keyclave.core.clock import MICROSECONDS
from keyclave.operations.nodes.barrier import Barrier, Standing, Wait, patience
from keyclave.operations.nodes.lease import steady
from keyclave.store import nodes as rows
from keyclave.store.changes import last_change

GLANCE_SECONDS = 0.4  # between two looks at the others' rows while nothing waits
_PAUSES = (0.001, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02)  # between two looks while something waits


class Waiting(Part):
    """Holds what the loop hands over. `live` is how many nodes there are, this one among them."""

    name = "barrier"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._changed = threading.Condition()
        self._new: list[Wait] = []
        self.live = 1

    def hold(self, release: Callable[[], None], reach: float, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        """On the loop: a change is durable. Release it when no other node can act on what was before."""
        told = False

        def once() -> None:
            nonlocal told
            if not told:
                told = True
                release()

        call_later(patience(self._ground.settings.lease_seconds, reach), once)  # even if the database is gone
        with self._changed:
            self._new.append(Wait(steady(), once, reach))
            self._changed.notify_all()

    def wake(self) -> None:
        """Have the thread look whether it is over."""
        with self._changed:
            self._changed.notify_all()

    def round(self, conn: Connection) -> None:
        """Wait for others, until the end."""
        barrier = Barrier(self._ground.node, self._ground.settings.lease_seconds)
        pauses = 0
        while not self._ground.ending.is_set():
            with self._changed:
                if not self._new:
                    pause = _PAUSES[min(pauses, len(_PAUSES) - 1)] if barrier.waiting else GLANCE_SECONDS
                    self._changed.wait(pause)
                pauses = 0 if self._new else pauses + 1
                barrier.waiting += self._new
                self._new.clear()
            if self._ground.ending.is_set():
                break
            self._look(conn, barrier)

    def _look(self, conn: Connection, barrier: Barrier) -> None:
        """Read the others' rows, release what is over, and give up whoever was waited for long enough."""
        with self._ground.within(conn):
            if any(wait.change is None for wait in barrier.waiting):
                barrier.number(last_change(conn))
            began = steady()
            found = rows.read_nodes(conn)
        newest = max((row.seen_at for row in found), default=0)
        self.live = max(1, sum(row.left_at is None and row.lease_until > newest for row in found))
        seen = [Standing(row.id, row.applied, row.seen_at, row.left_at is not None, row.stale / MICROSECONDS) for row in found]
        barrier.saw(seen, steady())
        for wait in barrier.over(began, read=True):
            self._ground.desk.on_loop(wait.release)
        for row in barrier.forsaken(began):
            with self._ground.within(conn):
                rows.give_up(conn, row.node, row.seen_at)

"""A node among others: the threads that follow what others change, wait for others, and place what all have kept.

Each thread has a connection of its own, so that none waits behind another or behind the store. The event loop does only what
must be done there: dropping names from memory, and answering. What each does is told in `keyclave.app.cluster_threads`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from keyclave.app.cluster_threads.clocks import Clocks
from keyclave.app.cluster_threads.following import Following
from keyclave.app.cluster_threads.ground import POLL_SECONDS, STATEMENT_SECONDS, Ground, Part, Settings
from keyclave.app.cluster_threads.placing import Placing
from keyclave.app.cluster_threads.waiting import Waiting
from keyclave.core.clock import SystemClock
from keyclave.core.errors import KeyclaveError
from keyclave.operations.desk import Desk
from keyclave.operations.nodes.lease import Lease
from keyclave.operations.nodes.membership import Membership
from keyclave.store import nodes as rows
from keyclave.store.pg.address import Address
from keyclave.store.pg.connections import open_connection, open_engine
from keyclave.store.pg.faults import FAULTS
from keyclave.store.sequence import LostLease

logger = logging.getLogger("keyclave.nodes")


class Cluster:
    """This process's part in it. Made before the loop serves anybody; `start` when it does."""

    def __init__(self, database: Address, node: str, settings: Settings) -> None:
        self._engine = open_engine(database)
        self.membership = Membership(node, Lease(settings.lease_seconds), self._hold)
        self._ground = Ground(node, settings, self.membership)
        self.contact = self._ground.contact
        self._clocks = Clocks(self.membership, settings.skew_seconds)
        self._waiting = Waiting(self._ground)
        self._threads: list[threading.Thread] = []

    def start(self, desk: Desk, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        """Begin, on the loop. The node may use keys as soon as its row was seen and it has asked once more."""
        self._ground.desk = desk
        self._call_later = call_later
        self._clocks.shown = desk.clock if isinstance(desk.clock, SystemClock) else None
        desk.meters.live_nodes = lambda: self._waiting.live
        for part in (Following(self._ground, self._clocks), self._waiting, Placing(self._ground)):
            thread = threading.Thread(target=self._run, args=(part,), name=f"keyclave-{part.name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def leave(self) -> None:
        """End the threads, give back the leases, and say that nobody need wait for this node."""
        self.membership.lease.give_back()
        self._ground.ending.set()
        self._waiting.wake()
        for thread in self._threads:
            thread.join(STATEMENT_SECONDS + 1)
        with suppress(*FAULTS), open_connection(self._engine) as conn, self._ground.within(conn):
            rows.leave(conn, self._ground.node)
        self._ground.deadlines.close()
        self._engine.dispose()

    def _hold(self, release: Callable[[], None], reach: float) -> None:
        self._waiting.hold(release, reach, self._call_later)

    def _run(self, part: Part) -> None:
        ending, complaints = self._ground.ending, self._ground.complaints
        while not ending.is_set():
            try:
                part.begins()
                with open_connection(self._engine) as conn:
                    part.round(conn)
            except LostLease:
                logger.warning("another node is the sequencer now")
            except RuntimeError:  # the loop has ended
                if not ending.is_set():
                    logger.exception("the %s cannot reach the event loop", part.name)
            except (*FAULTS, KeyclaveError, OSError) as fault:
                if not isinstance(fault, KeyclaveError):
                    part.lost()
                complaints.complain(part.name, fault)
            except Exception:
                logger.exception("the %s failed, and begins again", part.name)
            ending.wait(POLL_SECONDS)

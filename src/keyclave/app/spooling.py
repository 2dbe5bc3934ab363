"""A node's spool as part of the process: opened at the start, placed in the journal when the database answers, left at the end.

One thread does nothing but note that the process is awake (`Contact.tick`). Another places what lies in the folder now and then:
this node's own spool once it is closed, and those of processes that died. It may hang where a network swallows everything. It
has a connection of its own, made when there is something to place. A spool is deleted only when the database has all of it, and
the event that says so.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from keyclave.app.cluster import Cluster
from keyclave.core.errors import KeyclaveError
from keyclave.operations.desk import Desk
from keyclave.operations.nodes.spool_place import record_placing
from keyclave.operations.nodes.stale import StaleUses
from keyclave.store.pg.connections import driver_of, open_connection, open_engine
from keyclave.store.pg.deadlines import Deadlines
from keyclave.store.pg.faults import FAULTS
from keyclave.store.postgres import PostgresStore
from keyclave.store.spool.file import Reading
from keyclave.store.spool.folder import Folder
from keyclave.store.spool.placing import place
from keyclave.store.spool.writer import Writer

logger = logging.getLogger("keyclave.spool")

TICK_SECONDS = 0.25
LOOK_SECONDS = 30.0  # between two looks for spools of processes that died
PLACE_SECONDS = 30.0  # for one spool; what takes longer is begun again
RECORD_SECONDS = 5.0


@dataclass(frozen=True)
class SpoolSettings:
    """`limit`: bytes of a spool; `seconds`: for how long after its lease the node decrypts; `cluster`: whose database it is."""

    limit: int
    seconds: float
    cluster: str


class Spooling:
    """This process's spool and what happens to spools in its folder."""

    def __init__(
        self, folder: Folder, settings: SpoolSettings, store: PostgresStore, desk: Desk, cluster: Cluster,
        new_name: Callable[[], str],
    ) -> None:  # fmt: skip
        """Open a spool, and let the desk use it."""
        self._folder, self._settings, self._store, self._desk, self._cluster = folder, settings, store, desk, cluster
        self._writer = Writer(folder, settings.cluster, settings.limit, new_name, desk.on_loop)
        self._membership, self._contact = cluster.membership, cluster.contact
        self._deadlines = Deadlines()
        self._engine = open_engine(store.address)
        self._ending = threading.Event()
        self._next_look = 0.0
        self._said: set[str] = set()
        desk.stale = StaleUses(desk, cluster.membership, cluster.contact, self._writer, lambda: store.gone, settings.seconds)
        self._thread = threading.Thread(target=self._run, name="keyclave-spool", daemon=True)
        self._thread.start()
        self._ticking = threading.Thread(target=self._tick, name="keyclave-awake", daemon=True)
        self._ticking.start()

    def close(self) -> None:
        """Keep what waits, place it if the database is there, and leave the rest for the next process."""
        self._desk.stale = None
        self._ending.set()
        self._thread.join()
        self._ticking.join()
        self._writer.close()
        if self._reachable():
            self._place_all()
        self._engine.dispose()
        self._deadlines.close()
        self._folder.close()

    # ---- the threads ------------------------------------------------------------------------------------------------------
    def _tick(self) -> None:
        while not self._ending.wait(TICK_SECONDS):
            self._contact.tick()

    def _run(self) -> None:
        while not self._ending.wait(TICK_SECONDS):
            if not self._reachable():
                continue
            if self._writer.holding or time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + LOOK_SECONDS
                self._writer.hand_over()
                self._place_all()

    def _reachable(self) -> bool:
        return self._membership.lease.live and not self._store.gone

    def _place_all(self) -> None:
        for name in self._folder.spools():
            try:
                self._place(name)
            except (*FAULTS, KeyclaveError, OSError) as fault:
                reason = fault.detail if isinstance(fault, KeyclaveError) else str(fault).split("\n", 1)[0]
                self._complain(name, reason)
            except Exception:
                logger.exception("the spool %s could not be placed, and is tried again", name)

    def _complain(self, name: str, reason: str) -> None:
        if name not in self._said:
            self._said.add(name)
            logger.error("the spool %s is not placed yet: %s", name, reason)

    def _place(self, name: str) -> None:
        file = self._folder.lock(name)
        if file is None:
            return  # its writer lives
        try:
            found = Reading(file, name)
            if not found.journal:
                self._folder.remove(name)
            elif found.cluster != self._settings.cluster:
                self._complain(name, f"it is of another installation, {found.cluster}")
            else:
                self._place_found(name, found)
        finally:
            os.close(file)

    def _place_found(self, name: str, found: Reading) -> None:
        with open_connection(self._engine) as conn, self._deadlines.within(PLACE_SECONDS, driver_of(conn)):
            new = place(conn, self._store.node, found.journal, found.records())
        if found.events or found.ending == "damaged":
            record_placing(self._desk, found.journal, found.events, new, found.ending, RECORD_SECONDS)
        if found.ending == "damaged":
            self._folder.set_aside(name)
            logger.error("the spool %s is damaged: %d events before the damage are placed; see spec/spool.md", name, found.events)
            return
        self._folder.remove(name)
        if found.events:
            logger.info(
                "%d events that were spooled while the database was away are placed (%s, %s)", found.events, name, found.ending
            )


def open_spooling(folder: Folder, settings: SpoolSettings, store: PostgresStore, desk: Desk, cluster: Cluster) -> Spooling:
    """Begin to spool. The names of journals are drawn at random, and used for nothing else."""
    return Spooling(folder, settings, store, desk, cluster, lambda: desk.module.random(8).hex())

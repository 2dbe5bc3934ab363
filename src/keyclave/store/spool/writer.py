"""Group commit for the spool: whoever waits while the disk is busy shares the next sync.

The event loop hands units over and goes on; this thread numbers them, writes and syncs, and tells the loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from keyclave.core.errors import Broken, KeyclaveError, Unavailable
from keyclave.store.interface import Leaves
from keyclave.store.spool.file import Spool
from keyclave.store.spool.folder import Folder

logger = logging.getLogger("keyclave.spool")

GROUP = 512  # units of one record
GROUP_BYTES = 1 << 20  # of entries, unless a single unit has more


class Spooled(Protocol):
    """A decryption that waits to be recorded."""

    def spooled(self, journal: str, first: int) -> Leaves:
        """Return its encoded events, numbered from `first` in that journal."""
        ...

    def done(self, failure: KeyclaveError | None) -> None:
        """On the loop: it is on the disk (None), or nobody may be answered for it."""
        ...


class Writer:
    """One process's spool: the file it writes now, and the thread that writes it."""

    def __init__(
        self, folder: Folder, cluster: str, limit: int, new_name: Callable[[], str], on_loop: Callable[..., object]
    ) -> None:
        """Open a spool, so that it is there when it is needed. A disk that is full now is tried again then."""
        self._folder, self._cluster, self._limit = folder, cluster, limit
        self._new_name, self._on_loop = new_name, on_loop
        self._file = threading.Lock()  # who writes the spool, or closes it
        self._mutex = threading.Condition()
        self._queue: list[Spooled] = []
        self._ending = False
        self._spool: Spool | None = None
        self._prepare()
        self._thread = threading.Thread(target=self._run, name="keyclave-spool-writer", daemon=True)
        self._thread.start()

    @property
    def holding(self) -> bool:
        """Whether the open spool holds anything that the database has not."""
        spool = self._spool
        return spool is not None and spool.next > 0

    def enqueue(self, unit: Spooled) -> None:
        """On the loop: take a unit into the next record."""
        with self._mutex:
            self._queue.append(unit)
            self._mutex.notify_all()

    def hand_over(self) -> None:
        """Close the spool, if it holds anything, so that it can be placed, and open another for what comes next."""
        with self._file:
            spool = self._spool
            if spool is not None and spool.next:
                self._spool = None
                spool.close()
                self._prepare()

    def close(self) -> None:
        """Keep what waits, and end the thread. The spool is left for whoever places it."""
        with self._mutex:
            self._ending = True
            self._mutex.notify_all()
        self._thread.join()
        with self._file:
            if self._spool is not None:
                self._spool.close()
                self._spool = None

    # ---- the writing thread -----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            with self._mutex:
                while not self._queue and not self._ending:
                    self._mutex.wait()
                if not self._queue:
                    return
                group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
            while group:
                group = self._keep(group)

    def _keep(self, group: list[Spooled]) -> list[Spooled]:
        """Write one record; return the units that found no room in it."""
        failure: KeyclaveError | None = None
        taken = len(group)
        try:
            with self._file:
                spool = self._open()
                taken, leaves = _fill(spool, group)
                spool.append(leaves)
        except KeyclaveError as fault:
            failure = fault
        except OSError as fault:
            logger.error("the spool cannot be written: %s", fault.strerror)
            failure = Unavailable("the database does not answer, and the spool cannot be written", "repeat it at another node")
        except Exception:
            logger.exception("an event could not be spooled")
            failure = Broken("the event could not be spooled", "see the server's log")
        try:
            self._on_loop(_tell, group[:taken], failure)
        except RuntimeError:  # the loop has ended, and nobody waits any more
            logger.debug("nobody is left to be told")
        return group[taken:]

    def _prepare(self) -> None:
        """Have a spool ready, if the disk allows it now."""
        try:
            self._open()
        except OSError as fault:
            logger.error("no spool can be made in %s: %s", self._folder.path, fault.strerror)

    def _open(self) -> Spool:
        spool = self._spool
        if spool is not None and spool.broken:  # its records stay where they are, for whoever reads them
            self._spool = None
            spool.close()
            spool = None
        if spool is None:
            spool = self._spool = Spool(self._folder, self._new_name(), self._cluster, self._limit)
        return spool


def _fill(spool: Spool, group: list[Spooled]) -> tuple[int, Leaves]:
    leaves: Leaves = []
    size = taken = 0
    for unit in group:
        made = unit.spooled(spool.journal, spool.next + len(leaves))
        more = sum(map(len, made))
        if taken and size + more > GROUP_BYTES:
            break
        leaves += made
        size += more
        taken += 1
    return taken, leaves


def _tell(units: list[Spooled], failure: KeyclaveError | None) -> None:
    for unit in units:
        try:
            unit.done(failure)
        except Exception:  # a caller whose connection is in ruins must not keep the others from their answers
            logger.exception("an answer could not be given")

"""The writing thread: it decides the groups that the event loop hands it, one at a time.

Those are the ones with changes or with uses to account for, and those whose own statement failed on the loop: the thread tries
again, or finds out whether their row is there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from keyclave.core.errors import Broken, KeyclaveError
from keyclave.store.interface import Unit
from keyclave.store.pg import faults
from keyclave.store.pg.journal import Journal
from keyclave.store.pg.outcome import UnknownOutcome

logger = logging.getLogger("keyclave.store")

Decided = list[tuple[Unit, Exception | None]]
"""Units and what became of them, in the order of the journal."""


class WritingThread:
    """`decided` is called on the thread each time a group is decided; `take` then returns what became of it."""

    def __init__(self, journal: Journal, decided: Callable[[], None]) -> None:
        self._journal = journal
        self._say = decided
        self._mutex = threading.Condition()
        self._task: tuple[list[Unit], UnknownOutcome | None] | None = None
        self._decided: Decided | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="keyclave-writer", daemon=True)
        self._thread.start()

    # ---- for the loop -----------------------------------------------------------------------------------------------------
    def hand(self, group: list[Unit], open_end: UnknownOutcome | None = None) -> None:
        """Give it a group; perhaps with the row that was sent for it and may be there."""
        with self._mutex:
            self._task = group, open_end
            self._mutex.notify_all()

    def take(self) -> Decided | None:
        """Return what became of the group, if it is decided."""
        with self._mutex:
            decided, self._decided = self._decided, None
        return decided

    def wait(self, seconds: float) -> None:
        """Wait so long at most until there is something to take."""
        with self._mutex:
            self._mutex.wait_for(lambda: self._decided is not None, seconds)

    def close(self, seconds: float) -> None:
        """End it when the group at hand is decided; wait so long at most."""
        with self._mutex:
            self._ending = True
            self._mutex.notify_all()
        self._thread.join(seconds)

    # ---- on the thread ----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            with self._mutex:
                self._mutex.wait_for(lambda: self._task is not None or self._ending)
                if self._task is None:
                    return
                (group, open_end), self._task = self._task, None
            decided: Decided = []
            for part in ([u for u in group if not u.changes], [u for u in group if u.changes]):
                if part:
                    failure = self._decide(part, open_end)
                    decided += [(unit, failure) for unit in part]
            with self._mutex:
                self._decided = decided
                self._mutex.notify_all()
            self._say()

    def _decide(self, part: list[Unit], open_end: UnknownOutcome | None) -> Exception | None:
        try:
            if open_end is None:
                self._journal.keep(part)
            else:
                self._journal.find_out(open_end)
        except KeyclaveError as fault:
            return fault
        except faults.FAULTS as fault:
            logger.error("commit failed: %s", fault)
            return faults.unavailable(fault)
        except Exception:
            logger.exception("commit failed")
            return Broken("the commit failed", "see the server's log")
        return None

"""The group writer: units wait for one another, and share a commit.

Life of a group. Units wait in `_queue` for a turn of the event loop that brings nothing new (a lone request does not wait for
company, a crowd shares one sync). Then, inline on the loop's thread:

    BEGIN IMMEDIATE      die here or anywhere before COMMIT returns: nothing happened, nobody was told
    meet the others      where several processes write: what they changed is dropped, what rests on it is left out
    each change          inside a savepoint: a refusal undoes itself and leaves its refusal event instead
    INSERT rows          those of changes that only add some, of all units together; if one breaks a rule, all of it is undone,
                         and begins again with a savepoint for each
    INSERT segment       all events of the group in one row, numbered without gaps
    COMMIT               visible to whoever reads here, and to nobody outside
    follow, draft        the log's tree takes the leaves (start-up does the same from the same rows), answers are written
    wait                 one fdatasync; die right after: kept though unanswered, which is what idempotency keys are for
    done(None)           only now do answers leave

The disk is busy for as long as a hundred answers take to write. So where a crowd waits, it begins before that and not after it.

A failed COMMIT may have reached the disk all the same. So after any failure the store reads back where the log ends before it
numbers anything again, and what it finds there is followed like at start-up.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from operator import attrgetter

from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import Broken, KeyclaveError
from keyclave.store.embedded.fence import Fence
from keyclave.store.embedded.file import DATABASE_FAULTS, unavailable
from keyclave.store.embedded.following import Following
from keyclave.store.embedded.line import Line
from keyclave.store.entries import pack
from keyclave.store.insertions import Rows
from keyclave.store.interface import Unit
from keyclave.store.savepoints import broken_rule, draft, keep_unit, tell

logger = logging.getLogger("keyclave.store")

GROUP = 512  # units of one commit, at most
_CROWD = 8  # of them: from here on there is enough to do beside the disk
_OF_UNIT = attrgetter("events")
_INSERT_SEGMENT = "INSERT INTO segments (first, count, entries) VALUES (?, ?, ?)"


class _Refused(Exception):
    """Rows of a unit that only adds some cannot be added."""


class _NotTogether(Exception):
    """There is such a unit in `group`, which is all that is left of it. Nobody knows which: each is to be kept by itself."""

    def __init__(self, group: list[Unit]) -> None:
        super().__init__()
        self.group = group


class Groups:
    """`later` runs a function on the next turn of the event loop; without one nothing is flushed but by `flush`.

    `fence` stands between this process and the others that write to the same file; None where there are none.
    """

    def __init__(
        self, line: Line, following: Following, fence: Fence | None, later: Callable[[Callable[[], None]], object] | None
    ) -> None:
        self._line = line
        self._following = following
        self._fence = fence
        self._later = later
        self.next = line.head()  # the number that the next event will get
        self.queue: list[Unit] = []
        self.flushing = False
        self._waiting = 0  # how many waited at the last turn
        self._scheduled = False
        self._unsure = False  # whether a failed commit left the end of the log unknown

    # ---- waiting ----------------------------------------------------------------------------------------------------------
    def enqueue(self, unit: Unit) -> int:
        """Take a unit into the next group; return the number of its first event."""
        first = self.next
        self.next = first + unit.events
        self.queue.append(unit)
        if self._later is not None and not self._scheduled:
            self._scheduled, self._waiting = True, 0
            self._later(self._turn)
        return first

    def _turn(self) -> None:
        self._scheduled = False
        waiting = len(self.queue)
        if self._waiting < waiting < GROUP and self._later is not None:
            self._scheduled, self._waiting = True, waiting
            self._later(self._turn)
        elif waiting:
            self.flush()

    def flush(self) -> None:
        """Commit everything that waits, in groups."""
        if self.flushing:  # a `done` that enqueues and flushes must not commit inside the group that is being answered
            return
        self.flushing = True
        try:
            while self.queue:
                group, self.queue = self.queue[:GROUP], self.queue[GROUP:]
                self._commit(group)
        finally:
            self.flushing = False
        if self._fence is not None and self._fence.begin_again():
            self.flush()

    def meet_others(self) -> None:
        """Apply now what others have changed, not only before the next commit. Only from the thread that flushes."""
        if self._fence is None or self.flushing:
            return
        waited = _events(self.queue)
        try:
            self.queue = self._fence.meet([], self.queue)[1]
        except DATABASE_FAULTS as fault:
            raise unavailable(fault) from fault
        self.next -= waited - _events(self.queue)
        self._fence.begin_again()

    # ---- the commit -------------------------------------------------------------------------------------------------------
    def _commit(self, group: list[Unit]) -> None:
        try:
            self._try(group, together=True)
        except _NotTogether as fault:
            self._unsure = True  # what was begun is undone, and the end of the log read again
            self._try(fault.group, together=False)

    def _try(self, group: list[Unit], *, together: bool) -> None:
        """Commit a group. `together` as `_kept`."""
        fence = self._fence
        try:
            if self._unsure:
                self._look_again(group)
            self._line.begin()
            if fence is not None:
                group, self.queue = fence.meet(group, self.queue)
                self._number_from(self._line.head(), group)
                if not group:
                    self._line.undo()
                    return
            first = self.next - _events(group) - _events(self.queue)
            entries = self._kept(group, first, together=together)
            self._line.raw.execute(_INSERT_SEGMENT, (first, len(entries), pack(entries)))
            self._following.keep_tiles()
            change = 0 if fence is None else fence.tell(group)
            self._line.commit(crowd=len(group) >= _CROWD)
            try:
                self._meanwhile(group, first, entries)
            finally:
                self._line.wait()
        except _NotTogether:
            raise
        except BaseException as fault:
            self._failed(group, fault)
            if not isinstance(fault, Exception):
                raise
            return
        if fence is not None:
            fence.told(change)
        tell(group, None)

    def _kept(self, group: list[Unit], first: int, *, together: bool) -> list[bytes]:
        """Have each unit kept, in order, and return their events.

        `together`: rows that units only add are inserted with those of others. If some cannot be, `_NotTogether`.
        """
        entries: list[bytes] = []
        rows = Rows()
        try:
            for unit in group:
                at = first + len(entries)
                if not unit.asks:
                    entries += unit.keep(at)
                elif together and unit.adds:
                    entries += _add(unit, rows, at)
                else:
                    self._insert(rows)  # so that it finds what was done before it
                    entries += self._keep(unit, at)
            self._insert(rows)
        except _Refused as fault:
            raise _NotTogether(group) from fault
        return entries

    def _insert(self, rows: Rows) -> None:
        try:
            rows.insert(self._line.raw)
        except sqlite3.IntegrityError as fault:
            raise _Refused from fault

    def _keep(self, unit: Unit, first: int) -> list[bytes]:
        if not unit.changes:
            return unit.change(self._line.conn, first)
        return keep_unit(self._line.raw.execute, self._line.conn, unit, first, _refusal_of)

    def _meanwhile(self, group: list[Unit], first: int, entries: list[bytes]) -> None:
        """Do what may be done before the group is known to be durable: whoever asks for a receipt at once finds its leaf.

        What is signed of the tree is kept before anybody sees it, and that waits for everything committed before it.
        """
        self._following.waiting_tiles.clear()
        try:
            self._following.group(first, entries)
        except KeyclaveError as fault:  # what is durable is answered all the same; the log is followed again from the rows
            logger.error("the log did not follow: %s", fault.detail)
            self._following.size, self._unsure = min(self._following.size, first), True
        draft(group)

    # ---- the outcome of a commit that failed ------------------------------------------------------------------------------
    def _failed(self, group: list[Unit], fault: BaseException) -> None:
        """Undo what can be undone, and fail every unit that waits: their numbers are gone."""
        logger.error("commit failed: %s", fault, exc_info=not isinstance(fault, DATABASE_FAULTS))
        failure = (
            unavailable(fault) if isinstance(fault, DATABASE_FAULTS) else Broken("the commit failed", "see the server's log")
        )
        lost, self.queue = group + self.queue, []
        self._unsure = self._line.failing = True
        try:
            self._look_again([])
        except (*DATABASE_FAULTS, KeyclaveError) as worse:
            logger.error("the store does not answer: %s", worse)
        tell(lost, failure)

    def _look_again(self, waiting: list[Unit]) -> None:
        """Read where the log really ends, follow what was kept unnoticed, and number from there. `waiting` are renumbered."""
        self._line.undo()
        head = self._line.head()
        self._following.up_to(head)  # a commit failed, but persisted
        self._number_from(head, waiting)
        self._unsure = False

    def _number_from(self, head: int, waiting: list[Unit]) -> None:
        self.next = head + _events(waiting) + _events(self.queue)


def _add(unit: Unit, rows: Rows, first: int) -> list[bytes]:
    try:
        leaves = unit.add(rows, first)
    except Exception as fault:
        raise _Refused from fault
    if len(leaves) != unit.events:
        raise Broken("a unit left another number of events than it said")
    return leaves


def _events(units: list[Unit]) -> int:
    return sum(map(_OF_UNIT, units))


def _refusal_of(fault: Exception) -> KeyclaveError | None:
    if isinstance(fault, IntegrityError | sqlite3.IntegrityError):
        return broken_rule()
    if isinstance(fault, DATABASE_FAULTS):
        raise fault  # disk full, I/O error: the whole transaction is in doubt, not this unit alone
    return None

"""The store of many nodes: PostgreSQL, written by one process's loop and its writing thread, with group commit.

Life of a group. Units wait until the group before them is decided; so a crowd shares a commit and a lone request does not wait
for company. The event loop never waits for the database.

    events      INSERT INTO journal          sent and answered on the loop (`Lane`): one statement, which is its own commit
    the rest    BEGIN SERIALIZABLE; LOCK     by the thread. One node at a time: what would fail to serialize waits instead
                each change                  inside a savepoint: a refusal undoes itself and leaves its refusal event instead
                INSERT INTO journal
                what changed, and NOTIFY     the other nodes drop it from memory
                COMMIT                       tried again, a bounded number of times, where it stood in another one's way
    done        on the loop, in the order of the journal

One group is under way at any time, for this node numbers its events itself and leaves no gap. Events and the rest take turns, so
neither starves. What goes wrong with the loop's own statement is handed to the thread, which tries again, or finds out.

A connection that is lost in a commit leaves open whether it happened. The journal says so: its row (node, first) is there with
the same bytes, or not. What is not there is told as unknown, and a late arrival of it is met by the next row of the same number,
which the schema refuses: the numbers are then read again. No event is ever kept twice or under two numbers.

A commit that the server reports with a warning did not wait for its standby (somebody cancelled the wait): it is told as unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from keyclave.core.errors import Broken, Conflict, KeyclaveError, Unavailable
from keyclave.store import log_rows, places, records
from keyclave.store.changes import keep_changes, last_change, read_changes
from keyclave.store.entries import pack
from keyclave.store.interface import Names, Unit
from keyclave.store.pg import checks, faults, texts
from keyclave.store.pg.address import Address
from keyclave.store.pg.connections import Connections, driver_of, is_lost
from keyclave.store.pg.lane import Lane, Unconfirmed

T = TypeVar("T")

logger = logging.getLogger("keyclave.store")

GROUP = 512  # units of one commit, at most
TRIES = 20  # of a transaction that stands in another one's way
HASTY = 3  # of them without waiting for those that change something
READ_SECONDS = 3.0
WRITE_SECONDS = 6.0  # of one group; the server's own time-outs come first where it is alive
RESOLVE_SECONDS = 3.0  # to find out whether a commit happened whose connection was lost
FLUSH_SECONDS = 10.0
CHANNEL = "keyclave_changes"
_INSERT = "INSERT INTO journal (node, first, count, entries) VALUES (%s, %s, %s, %b)"
_HEAD = "SELECT first + count FROM journal WHERE node = %s ORDER BY first DESC LIMIT 1"
_ROW = "SELECT entries FROM journal WHERE node = %s AND first = %s"
_CONFIRM = "SELECT pg_logical_emit_message(true, 'keyclave', 'found')"  # the least that is a commit, and waits as one
# LOCK takes no snapshot, so that of the transaction is taken once nobody else changes anything.
_BEGIN = "BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE change_counter IN SHARE ROW EXCLUSIVE MODE"
_BEGIN_WRITE = "BEGIN ISOLATION LEVEL SERIALIZABLE"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_NOTIFY = f"SELECT pg_notify('{CHANNEL}', %s)"


class _Untold(dict[tuple[int, int], bytes]):
    """Full tiles of a tree that follows: the sequencer has kept them together with the places of their entries."""

    def __setitem__(self, key: tuple[int, int], value: bytes) -> None:
        return


class PostgresStore:
    """One process's way to the database."""

    shared = True
    sequenced = True

    def __init__(
        self,
        address: Address,
        node: str,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        development: bool = False,
        cluster: str | None = None,
    ) -> None:
        """Connect as `node`, a name that no process had before. `loop` is where units come from and are told; without it nothing
        is answered but by `flush`. `cluster` is whose database it has to be.
        """
        self.node = node
        self._loop = loop
        self._mutex = threading.Condition()
        self._events: deque[Unit] = deque()  # what waits, and asks nothing of the database
        self._rest: deque[Unit] = deque()  # what waits, and needs a transaction
        self._ahead = 0  # events of units that are not decided yet
        self._under_way = False  # whether a group is: the loop's own, as all that is above
        self._task: tuple[list[Unit], _Unknown | None] | None = None  # what the thread is to decide
        self._decided: list[tuple[Unit, Exception | None]] | None = None  # and what became of it
        self._ending = False
        self._woken = False
        self._refused: deque[Unit] = deque()
        self._first = 0  # the number of the next event in the journal; whose turn it is may touch it
        self._unsure = False  # whether it has to be read again
        self.waiting_tiles: dict[tuple[int, int], bytes] = _Untold()
        self.follow: Callable[[int, list[bytes]], None] = lambda first, entries: None
        self.apply: Callable[[Names], None] = lambda names: None
        self._followed = self._applied = 0
        self._connections = Connections(address, loop)
        self.address = address
        try:
            with self._connections.lend(READ_SECONDS) as conn, self._connections.lend(READ_SECONDS) as other:
                checks.check_sessions(conn, other)
            with self._connections.lend(WRITE_SECONDS) as conn:
                checks.check(conn, development=development, cluster=cluster)
                self.home = (records.read_meta(conn, "node") or b"").decode()
                self._followed = places.head(conn)
                self._applied = last_change(conn)
        except faults.FAULTS as fault:
            self._connections.close()
            raise faults.refused(fault, address.shown) from None
        except BaseException:
            self._connections.close()
            raise
        self._thread = threading.Thread(target=self._run, name="keyclave-writer", daemon=True)
        self._thread.start()

    # ---- reading ----------------------------------------------------------------------------------------------------------
    @property
    def gone(self) -> bool:
        """Whether the database is known not to answer."""
        return self._connections.gone

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on a snapshot, from any thread."""
        try:
            return self._lent(lambda conn: self._inside(conn, _BEGIN_READ, fn), READ_SECONDS)
        except Unavailable as fault:
            if not isinstance(fault.__cause__, DataError):
                raise
        with texts.only_looking():
            return self._lent(lambda conn: self._inside(conn, _BEGIN_READ, fn), READ_SECONDS)

    def _single(self, fn: Callable[[Connection], T]) -> T:
        """Run one statement, which is a snapshot by itself."""
        return self._lent(fn, READ_SECONDS)

    def _lent(self, fn: Callable[[Connection], T], seconds: float) -> T:
        try:
            with self._connections.lend(seconds) as conn:
                return fn(conn)
        except faults.FAULTS as fault:
            raise faults.unavailable(fault) from fault

    @staticmethod
    def _inside(conn: Connection, begin: str, fn: Callable[[Connection], T]) -> T:
        driver = driver_of(conn)
        driver.execute(begin)
        result = fn(conn)
        _durably(driver, "COMMIT", None)
        return result

    @property
    def next_event(self) -> int:
        """The number that this node's next event will get."""
        return self._first + self._ahead

    def placed(self) -> int:
        """Return how many events have a place in the log."""
        return self._single(places.head)

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
        return self._single(lambda conn: places.in_journal(conn, node, number))

    # ---- writing ----------------------------------------------------------------------------------------------------------
    def enqueue(self, unit: Unit) -> int:
        """Take a unit into the next group; return the number its first event will have, unless others go before it."""
        if self._connections.gone:
            self._refused.append(unit)
            self._soon(self._refuse)
            return self._first
        first = self.next_event
        self._ahead += unit.events
        (self._rest if unit.asks else self._events).append(unit)
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
        self._depart(self._events or self._rest)

    def _depart(self, waiting: deque[Unit]) -> None:
        """Let a group of what waits go, unless one is under way."""
        if self._under_way or not waiting:
            return
        self._under_way = True
        group = [waiting.popleft() for _ in range(min(GROUP, len(waiting)))]
        lane = self._connections.lane() if waiting is self._events and not self._unsure else None
        if lane is None or not self._fly(lane, group):
            self._hand(group)

    def _fly(self, lane: Lane, group: list[Unit]) -> bool:
        """Send events on the loop's own connection; False if they cannot even be written down."""
        leaves: list[bytes] = []
        try:
            for unit in group:
                leaves += unit.keep(self._first + len(leaves))
        except Exception:
            logger.exception("events could not be written down")
            return False
        packed = pack(leaves)
        row = _Unknown(self._first, packed, len(leaves))

        def told(fault: psycopg.Error | None, lost: bool) -> None:
            if fault is None:
                self._first += row.count
                self._settle([(unit, None) for unit in group], self._rest or self._events)
                return
            self._unsure = True
            if isinstance(fault, Unconfirmed):
                logger.error("the database committed with a warning: %s", fault)
                self._settle([(unit, faults.unavailable()) for unit in group], self._rest or self._events)
                return
            if faults.state_of(fault) == faults.READ_ONLY:
                self._connections.lose()
            self._hand(group, row if lost else None)

        lane.keep(self.node, self._first, len(leaves), packed, WRITE_SECONDS, told)
        return True

    def _hand(self, group: list[Unit], open_end: _Unknown | None = None) -> None:
        """Give a group to the thread; perhaps with the row that was sent for it and may be there."""
        with self._mutex:
            self._task = group, open_end
            self._mutex.notify_all()

    def _take(self) -> None:
        """On the loop: the thread has decided."""
        with self._mutex:
            decided, self._decided = self._decided, None
        if decided is not None:
            self._settle(decided, self._events or self._rest)

    def _settle(self, decided: list[tuple[Unit, Exception | None]], waiting: deque[Unit]) -> None:
        """A group is decided: let the next one go, and tell the units of this one, in order, while the database works."""
        self._ahead -= sum(unit.events for unit, _ in decided)
        self._under_way = False
        self._depart(waiting)
        for unit, failure in decided:
            self._tell(unit, failure)

    def _refuse(self) -> None:
        """On the loop: tell those that came while the database was known to be gone."""
        while self._refused:
            self._tell(self._refused.popleft(), faults.gone())

    @staticmethod
    def _tell(unit: Unit, failure: Exception | None) -> None:
        try:
            unit.done(failure)
        except Exception:  # a caller whose connection is in ruins must not keep the others from their answers
            logger.exception("an answer could not be given")

    def flush(self) -> None:
        """Wait until everything that waits is decided, and tell it."""
        self._woken = False
        deadline = time.monotonic() + FLUSH_SECONDS
        self._refuse()
        while self._under_way or self._events or self._rest:
            self._depart(self._events or self._rest)
            left = deadline - time.monotonic()
            if left <= 0:
                raise faults.unavailable()
            if not self._connections.finish(left):
                with self._mutex:
                    self._mutex.wait_for(lambda: self._decided is not None, left)
                self._take()

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a transaction of its own, from any thread, for what leaves no event. It may be run more than once."""
        for number, pause in enumerate(_pauses()):
            begin = _BEGIN_WRITE if number < HASTY else _BEGIN  # who lost several times takes its turn
            try:
                with self._connections.lend(WRITE_SECONDS) as conn:
                    return self._inside(conn, begin, fn)
            except faults.FAULTS as fault:
                if pause is None or not faults.worth_another_try(fault):
                    raise faults.unavailable(fault) from fault
                time.sleep(pause)
        raise AssertionError

    # ---- the writing thread -----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            with self._mutex:
                self._mutex.wait_for(lambda: self._task is not None or self._ending)
                if self._task is None:
                    return
                (group, open_end), self._task = self._task, None
            decided: list[tuple[Unit, Exception | None]] = []
            for part in ([u for u in group if not u.changes], [u for u in group if u.changes]):
                if part:
                    failure = self._decide(part, open_end)
                    decided += [(unit, failure) for unit in part]
            with self._mutex:
                self._decided = decided
                self._mutex.notify_all()
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended: what is left is told by `close`
                    self._loop.call_soon_threadsafe(self._take)

    def _decide(self, part: list[Unit], open_end: _Unknown | None) -> Exception | None:
        try:
            if open_end is None:
                self._keep(part)
            else:
                self._resolve(open_end)
        except KeyclaveError as fault:
            return fault
        except faults.FAULTS as fault:
            logger.error("commit failed: %s", fault)
            return faults.unavailable(fault)
        except Exception:
            logger.exception("commit failed")
            return Broken("the commit failed", "see the server's log")
        return None

    def _keep(self, part: list[Unit]) -> None:
        """Make the part durable, or raise: then nothing of it happened, or it is not known."""
        changing = part[0].changes
        for pause in _pauses():
            conn = self._connections.writer()
            try:
                with self._connections.deadlines.within(WRITE_SECONDS, driver_of(conn)):
                    self._connections.prove_writer(conn)
                    if self._unsure:
                        self._look_again(conn)
                    leaves = self._change(conn, part) if changing else self._use(conn, part)
                self._first += len(leaves)
                return
            except _Unknown as open_end:
                self._connections.lose(conn)
                self._resolve(open_end)
                return
            except faults.FAULTS as fault:
                self._unsure = True
                if is_lost(conn, fault):  # before the last act: nothing of it happened
                    self._connections.lose(conn)
                    if pause is None or not self._connections.wait(RESOLVE_SECONDS):
                        raise faults.gone() from fault
                    continue
                self._connections.tidy(conn)
                if pause is None or not (faults.worth_another_try(fault) or _took_our_number(fault)):
                    raise
            except BaseException:
                self._unsure = True
                self._connections.tidy(conn)
                raise
            time.sleep(pause)

    def _look_again(self, conn: Connection) -> None:
        row = driver_of(conn).execute(_HEAD, (self.node,)).fetchone()
        self._first = 0 if row is None else int(row[0])
        self._unsure = False

    def _use(self, conn: Connection, part: list[Unit]) -> list[bytes]:
        """Keep events alone. Uses of keys that are accounted for on the way are kept by themselves, before: never too few."""
        leaves: list[bytes] = []
        for unit in part:
            leaves += unit.change(conn, self._first + len(leaves))
        self._last_act(conn, _INSERT, leaves)
        return leaves

    def _change(self, conn: Connection, part: list[Unit]) -> list[bytes]:
        driver = driver_of(conn)
        driver.execute(_BEGIN)
        leaves: list[bytes] = []
        for unit in part:
            leaves += self._in_savepoint(conn, unit, self._first + len(leaves))
        driver.execute(_INSERT, (self.node, self._first, len(leaves), pack(leaves)))
        names = [name for unit in part for name in unit.touched()]
        if names:
            driver.execute(_NOTIFY, (str(keep_changes(conn, self.node, names)),))
        self._last_act(conn, "COMMIT", leaves)
        return leaves

    def _last_act(self, conn: Connection, statement: str, leaves: list[bytes]) -> None:
        """Do what makes it durable. If the connection is lost meanwhile it is not known whether it did."""
        packed = pack(leaves)
        parameters = None if statement == "COMMIT" else (self.node, self._first, len(leaves), packed)
        try:
            _durably(driver_of(conn), statement, parameters)
        except faults.FAULTS as fault:
            if is_lost(conn, fault) and faults.state_of(fault) != faults.READ_ONLY:
                raise _Unknown(self._first, packed, len(leaves)) from fault
            raise

    def _in_savepoint(self, conn: Connection, unit: Unit, first: int) -> list[bytes]:
        driver = driver_of(conn)
        driver.execute("SAVEPOINT unit")
        try:
            leaves = unit.change(conn, first)
        except faults.FAULTS as fault:
            leaves = self._undo(conn, unit, _as_refusal(fault), first)
        except KeyclaveError as refusal:
            leaves = self._undo(conn, unit, refusal, first)
        except Exception:
            logger.exception("a change failed")
            leaves = self._undo(conn, unit, Broken("the change failed and was undone", "see the server's log"), first)
        driver.execute("RELEASE unit")
        if len(leaves) != unit.events:
            raise Broken("a unit left another number of events than it said")
        return leaves

    @staticmethod
    def _undo(conn: Connection, unit: Unit, error: KeyclaveError, first: int) -> list[bytes]:
        driver_of(conn).execute("ROLLBACK TO unit")
        return unit.refused(error, first)

    def _resolve(self, open_end: _Unknown) -> None:
        """Find out whether a commit happened whose connection was lost. Return if it did; else raise."""
        self._unsure = True
        deadline = time.monotonic() + RESOLVE_SECONDS
        while time.monotonic() < deadline:
            try:
                row = self._single(lambda conn: self._find_row(driver_of(conn), open_end.first))
            except Unavailable:
                time.sleep(0.05)  # between two looks: the keeper connects meanwhile
                continue
            if row is not None and bytes(row[0]) == open_end.packed:
                return
            break
        raise faults.unavailable()

    def _find_row(self, driver: psycopg.Connection[Any], first: int) -> Any:
        """Return a row of this node's journal once it is as durable as an answered one.

        A server that crashed while a commit waited for its standby shows the row when it is up again, though no standby has it. A
        commit after it waits until the standby has everything up to itself, and so that row, too.
        """
        row = driver.execute(_ROW, (self.node, first)).fetchone()
        if row is not None:
            _durably(driver, _CONFIRM, None)
        return row

    # ---- the log's own rows -----------------------------------------------------------------------------------------------
    def followed_by(self, follow: Callable[[int, list[bytes]], None], size: int) -> None:
        """Hand what gets its place in the log on to `follow`, from place `size` on."""
        self.follow, self._followed = follow, size

    def meet_others(self) -> None:
        """Apply now what others have changed. Only on the loop."""
        n, names = self.read(lambda conn: read_changes(conn, self._applied))
        if names:
            self.apply(names)
        self._applied = n

    def catch_up(self) -> None:
        """Follow what has got its place in the log. Only on the loop."""
        end = self.placed()
        while self._followed < end:
            found = list(self.read_entries(self._followed, min(4096, end - self._followed)))
            if not found:
                raise Broken("the log has a gap", "stop, keep the database as evidence, and verify an export")
            self.follow(self._followed, found)
            self._followed += len(found)

    def read_tile(self, level: int, number: int) -> bytes | None:
        """Return a full tile, or None."""
        return self._single(lambda conn: log_rows.read_tile(conn, level, number))

    def keep_checkpoint(self, size: int, root: bytes, note: str, at: int) -> None:
        """Keep a signed checkpoint; where one of that size or a larger one is kept, that one stays."""
        self.write(lambda conn: log_rows.keep_checkpoint(conn, size, root, note, at))

    def last_checkpoint(self, size: int | None = None) -> tuple[int, bytes, str] | None:
        """Return (size, root, note) of the newest checkpoint, or of the one of that size."""
        return self._single(lambda conn: log_rows.last_checkpoint(conn, size))

    def checkpoint_sizes(self, after: int, limit: int) -> list[int]:
        """Return the sizes of kept checkpoints greater than `after`."""
        return self._single(lambda conn: log_rows.checkpoint_sizes(conn, after, limit))

    def last_tile(self) -> int:
        """Return how many full tiles of level 0 are kept."""
        return self._single(log_rows.last_tile)

    # ---- upkeep -----------------------------------------------------------------------------------------------------------
    def tidy(self) -> None:
        """Nothing: the database looks after itself."""

    def rewind(self) -> None:
        """Nothing: the database looks after itself."""

    def close(self) -> None:
        """Decide what waits, tell it, and close every connection."""
        try:
            self.flush()
        finally:
            with self._mutex:
                self._ending = True
                self._mutex.notify_all()
            self._thread.join(FLUSH_SECONDS)
            self._connections.close()


class _Unknown(Exception):
    """The connection was lost while a group was made durable: this was to be its row."""

    def __init__(self, first: int, packed: bytes, count: int) -> None:
        super().__init__(f"events {first} to {first + count - 1}")
        self.first, self.packed, self.count = first, packed, count


def _durably(driver: psycopg.Connection[Any], statement: str, parameters: Sequence[object] | None) -> None:
    """Do what commits, and believe it only without a warning."""
    warnings: list[psycopg.errors.Diagnostic] = []
    driver.add_notice_handler(warnings.append)
    try:
        driver.execute(statement, parameters)
    finally:
        driver.remove_notice_handler(warnings.append)
    if warnings:
        logger.error("the database committed with a warning: %s", warnings[0].message_primary)
        raise faults.unavailable()


def _pauses() -> list[float | None]:
    """Return how long to wait after each try: random and growing, and None after the last one."""
    growing: list[float | None] = [random.uniform(0, min(0.1, 0.001 * 2**number)) for number in range(TRIES - 1)]  # noqa: S311
    return [*growing, None]


def _took_our_number(fault: BaseException) -> bool:
    """Tell whether a row of ours arrived late that was told as unknown: the numbers go on after it."""
    return faults.state_of(fault).startswith("23") and "journal" in str(fault)


def _as_refusal(fault: Any) -> KeyclaveError:
    """Return what a unit is refused with whose change the database refused; other faults concern the whole transaction."""
    if faults.state_of(fault).startswith("23") or isinstance(fault, IntegrityError):
        return Conflict("the change breaks a rule of the store", "read again and repeat")
    if isinstance(fault, DataError | ProgrammingError):
        logger.error("the database does not take a change: %s", fault.orig)
        return Broken("the database does not take the change", "see the server's log")
    raise fault

"""A node among others: the threads that follow what others change, wait for others, and place what all have kept.

Each thread has a connection of its own, so that none waits behind another or behind the store. The event loop does only what
must be done there: dropping names from memory, and answering.

    follower    asks for changes (woken by NOTIFY, else every `POLL_SECONDS`) -> the loop drops them -> renews the row -> lease
    barrier     changes made here wait until no other node can act on what was before them
    sequencer   on one node at a time: places, full tiles, checkpoints
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection

from keyclave import __version__
from keyclave.core.clock import MICROSECONDS, SystemClock
from keyclave.core.errors import KeyclaveError
from keyclave.operations.desk import Desk
from keyclave.operations.invalidation import follow
from keyclave.operations.nodes.barrier import Barrier, Standing, Wait, patience
from keyclave.operations.nodes.contact import Contact
from keyclave.operations.nodes.follower import Follower, Question
from keyclave.operations.nodes.lease import PATIENCE, Lease, steady
from keyclave.operations.nodes.membership import Membership
from keyclave.operations.nodes.sequencer import LEASE, Sequencer
from keyclave.store import nodes as rows
from keyclave.store.changes import forget_changes, last_change
from keyclave.store.pg.address import Address
from keyclave.store.pg.connections import driver_of, open_connection, open_engine
from keyclave.store.pg.deadlines import Deadlines
from keyclave.store.pg.faults import FAULTS
from keyclave.store.pg.journal import CHANNEL
from keyclave.store.sequence import LostLease
from keyclave.store.versions import revision

logger = logging.getLogger("keyclave.nodes")

POLL_SECONDS = 0.1
STATEMENT_SECONDS = 2.0  # of one round: what takes longer is cut off
_AGREED_SECONDS = 2.0  # that two clocks count as agreeing after they were compared
SEQUENCER_SECONDS = 2.5  # of the sequencer's lease: a dead one is replaced within that and a look
LOOK_SECONDS = 0.25
PLACE_SECONDS = 0.1  # between two looks at what has no place yet: a look costs as much for a thousand events as for one
TIDY_SECONDS = 600.0  # between two clearings of rows that nobody needs any more
GLANCE_SECONDS = 0.4  # between two looks at the others' rows while nothing waits
_PAUSES = (0.001, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02)  # between two looks while something waits
_SAID_AGAIN = 30.0


@dataclass(frozen=True)
class Settings:
    """`lease_seconds` bounds how long a revocation can take; `skew_seconds` how wrong this machine's clock may be; for
    `stale_seconds` after its lease the node may decrypt with keys that allow it (0: never)."""

    address: str
    lease_seconds: float
    skew_seconds: float
    checkpoint_seconds: float
    stale_seconds: float = 0.0


class Cluster:
    """This process's part in it. Made before the loop serves anybody; `start` when it does."""

    def __init__(self, database: Address, node: str, settings: Settings) -> None:
        self._node = node
        self._settings = settings
        self._engine = open_engine(database)
        self._deadlines = Deadlines()
        self._ending = threading.Event()
        self._changed = threading.Condition()
        self._new: list[Wait] = []
        self._threads: list[threading.Thread] = []
        self._said: dict[str, float] = {}
        self._skew = 0
        self._wrong_before = False
        self._clock: SystemClock | None = None
        self._said_ahead = False
        self._told = (True, False)  # whether it is sealed, and drains, as its row says
        self._fence: int | None = None
        self.leads = False
        self._live = 1  # nodes, this one among them
        self.contact = Contact()
        self.membership = Membership(node, Lease(settings.lease_seconds), self._hold)

    def start(self, desk: Desk, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        """Begin, on the loop. The node may use keys as soon as its row was seen and it has asked once more."""
        self._desk = desk
        self._call_later = call_later
        self._clock = desk.clock if isinstance(desk.clock, SystemClock) else None
        desk.meters.live_nodes = lambda: self._live
        for name, round_of in (("follower", self._follow), ("barrier", self._wait), ("sequencer", self._place)):
            thread = threading.Thread(target=self._run, args=(name, round_of), name=f"keyclave-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def leave(self) -> None:
        """End the threads, give back the leases, and say that nobody need wait for this node."""
        self.membership.lease.give_back()
        self._ending.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(STATEMENT_SECONDS + 1)
        with suppress(*FAULTS), open_connection(self._engine) as conn, self._within(conn):
            rows.leave(conn, self._node)
        self._deadlines.close()
        self._engine.dispose()

    # ---- what every thread shares -----------------------------------------------------------------------------------------
    def _run(self, name: str, round_of: Callable[[Connection], None]) -> None:
        while not self._ending.is_set():
            try:
                if name == "follower":
                    self.contact.asking()
                with open_connection(self._engine) as conn:
                    round_of(conn)
            except LostLease:
                logger.warning("another node is the sequencer now")
            except RuntimeError:  # the loop has ended
                if not self._ending.is_set():
                    logger.exception("the %s cannot reach the event loop", name)
            except (*FAULTS, KeyclaveError, OSError) as fault:
                if name == "follower" and not isinstance(fault, KeyclaveError):
                    self.contact.failed()
                self._complain(name, fault)
            except Exception:
                logger.exception("the %s failed, and begins again", name)
            finally:
                if name == "sequencer":
                    self.leads, self._fence = False, None
            self._ending.wait(POLL_SECONDS)

    def _complain(self, name: str, fault: BaseException) -> None:
        now = time.monotonic()
        if now > self._said.get(name, float("-inf")) + _SAID_AGAIN:
            self._said[name] = now
            if isinstance(fault, KeyclaveError):
                logger.error("the %s cannot go on: %s → %s", name, fault.detail, fault.hint)
            else:
                logger.warning("the %s has lost the database: %s", name, str(fault).split("\n", 1)[0])

    def _within(self, conn: Connection, seconds: float = STATEMENT_SECONDS) -> AbstractContextManager[None]:
        return self._deadlines.within(seconds, driver_of(conn))

    # ---- the follower -----------------------------------------------------------------------------------------------------
    def _follow(self, conn: Connection) -> None:
        driver = driver_of(conn)
        with self._within(conn):
            driver.execute(f"LISTEN {CHANNEL}")
            if not hasattr(self, "_follower"):  # what was loaded before has not been told of: begin from here, with nothing
                self._follower = Follower(last_change(conn), self._settings.lease_seconds)
        self.contact.answered()
        while not self._ending.is_set():
            question = self._ask(conn)
            if self._must_renew(question) and self._apply(question):
                self._renew(conn, question)
            for _ in driver.notifies(timeout=POLL_SECONDS, stop_after=1):
                pass

    def _must_renew(self, question: Question) -> bool:
        """Tell whether there is anything to say, or to prolong. Who has only announced itself asks again at once."""
        told = self._told == (self._desk.vault.sealed, self._desk.draining)
        return self._follower.must_renew(question) or not told or not self.membership.lease.live

    def _ask(self, conn: Connection) -> Question:
        with self._within(conn):
            self.contact.asking()
            asked, wall = steady(), time.time_ns() // 1000
            change, news, now = rows.read_news(conn, self._follower.applied, self._node)
            took = steady() - asked
            self.contact.answered()
            question = self._follower.read(asked, change, news)
            if self._must_renew(question):
                self._compare_clocks(now, wall, took)
        return question

    def _compare_clocks(self, database: int, wall: int, took: float) -> None:
        """Refuse while this machine's clock is far from the database's: what expires would do so at the wrong time here."""
        after = time.time_ns() // 1000
        if took > 1 or after - wall > 2 * MICROSECONDS:
            return
        self._skew = (wall + after) // 2 - database
        wrong = abs(self._skew) > self._settings.skew_seconds * MICROSECONDS
        if wrong and self._wrong_before and not self.membership.fault:
            way = "before" if self._skew > 0 else "behind"
            self.membership.fault = f"this node's clock is {abs(self._skew) / MICROSECONDS:.0f} s {way} the database's"
            logger.error("%s: it refuses to serve until that is set right", self.membership.fault)
        elif not wrong and self.membership.fault:
            self.membership.fault = ""
            logger.warning("this node's clock agrees with the database's again")
        self._wrong_before = wrong
        if not wrong and self._clock is not None:
            self._follow_back(self._clock, max(0, -self._skew))

    def _follow_back(self, clock: SystemClock, short: int) -> None:
        """This machine's clock and the database's agree: a time that is ahead of both, for one of them was wrong, comes back."""
        ahead = clock.follow_back(_AGREED_SECONDS, short)
        if ahead and not self._said_ahead:
            logger.warning(
                "time here is %.1f s ahead of this machine's clock and the database's: it goes on at a sixteenth of its pace "
                "until they have caught up", ahead / MICROSECONDS,
            )  # fmt: skip
        self._said_ahead = ahead > 0

    def _apply(self, question: Question) -> bool:
        """Let the loop drop what was changed and answer what was under way; a loop that is stuck lets the lease run out."""
        applied = threading.Event()
        self._desk.on_loop(follow, self._desk, question, applied.set)
        while not applied.wait(POLL_SECONDS):
            if self._ending.is_set():
                return False
        return True

    def _renew(self, conn: Connection, question: Question) -> None:
        self._follower.was_applied(question)
        told = self._desk.vault.sealed, self._desk.draining
        said = rows.Node(
            id=self._node, address=self._settings.address, version=__version__, schema=revision(), started_at=0, seen_at=0,
            applied=question.change, lease_until=0, skew=self._skew, sealed=told[0], draining=told[1],
            stale=int(self._settings.stale_seconds * MICROSECONDS),
        )  # fmt: skip
        driver = driver_of(conn)
        warned: list[psycopg.errors.Diagnostic] = []
        driver.add_notice_handler(warned.append)
        try:
            with self._within(conn):
                self.contact.asking()
                known = rows.renew(conn, said, int(PATIENCE * self._settings.lease_seconds * MICROSECONDS))
        finally:
            driver.remove_notice_handler(warned.append)
        self.contact.answered()
        if warned:  # committed here only: after a failover the others would not know of it
            raise psycopg.OperationalError(f"a renewal was not replicated: {warned[0].message_primary}")
        self._follower.was_renewed(question)
        self._said.pop("follower", None)
        self._told = told
        if not known:
            self.membership.lease.announced(question.asked)
        elif self.membership.lease.renewed(question.asked):
            self.contact.held()
            if "lease" not in self._said:
                self._said["lease"] = time.monotonic()
                logger.info("node %s serves with a lease of %s s", self._node, self._settings.lease_seconds)

    # ---- the barrier ------------------------------------------------------------------------------------------------------
    def _hold(self, release: Callable[[], None], reach: float) -> None:
        """On the loop: a change is durable. Release it when no other node can act on what was before."""
        told = False

        def once() -> None:
            nonlocal told
            if not told:
                told = True
                release()

        self._call_later(patience(self._settings.lease_seconds, reach), once)  # even if the database is gone
        with self._changed:
            self._new.append(Wait(steady(), once, reach))
            self._changed.notify_all()

    def _wait(self, conn: Connection) -> None:
        barrier = Barrier(self._node, self._settings.lease_seconds)
        pauses = 0
        while not self._ending.is_set():
            with self._changed:
                if not self._new:
                    pause = _PAUSES[min(pauses, len(_PAUSES) - 1)] if barrier.waiting else GLANCE_SECONDS
                    self._changed.wait(pause)
                pauses = 0 if self._new else pauses + 1
                barrier.waiting += self._new
                self._new.clear()
            if self._ending.is_set():
                break
            with self._within(conn):
                if any(wait.change is None for wait in barrier.waiting):
                    barrier.number(last_change(conn))
                began = steady()
                found = rows.read_nodes(conn)
            newest = max((row.seen_at for row in found), default=0)
            self._live = max(1, sum(row.left_at is None and row.lease_until > newest for row in found))
            seen = [
                Standing(row.id, row.applied, row.seen_at, row.left_at is not None, row.stale / MICROSECONDS) for row in found
            ]
            barrier.saw(seen, steady())
            for wait in barrier.over(began, read=True):
                self._desk.on_loop(wait.release)
            for row in barrier.forsaken(began):
                with self._within(conn):
                    rows.give_up(conn, row.node, row.seen_at)

    # ---- the sequencer ----------------------------------------------------------------------------------------------------
    def _place(self, conn: Connection) -> None:
        length = int(SEQUENCER_SECONDS * MICROSECONDS)
        while not self._ending.is_set():
            with self._within(conn):
                if self._better_placed(conn):
                    self._ending.wait(LOOK_SECONDS)
                    continue
                self._fence = rows.take_lease(conn, LEASE, self._node, length)
            if self._fence is None:
                self._ending.wait(LOOK_SECONDS)
                continue
            try:
                self._lead(conn, Sequencer(conn, self._node, self._fence, length))
            finally:
                self.leads = False
            with suppress(*FAULTS), self._within(conn):
                rows.give_lease(conn, LEASE, self._node, self._fence)

    def _better_placed(self, conn: Connection) -> bool:
        """Tell whether an unsealed node lives, so that a sealed one, which cannot sign, leaves it to that."""
        if not self._desk.vault.sealed:
            return False
        now = rows.database_time(conn)
        return any(not row.sealed and not row.draining and row.lease_until > now for row in rows.read_nodes(conn))

    def _lead(self, conn: Connection, sequencer: Sequencer) -> None:
        """Place and sign until the end, or until another node is better placed."""
        self.leads = True
        logger.info("this node is the sequencer, from event %d", sequencer.size)
        next_note = next_hold = next_tidy = 0.0
        while not self._ending.is_set():
            with self._within(conn, 2 * STATEMENT_SECONDS):
                sequencer.look()
                now = time.monotonic()
                if now >= next_note:
                    next_note = now + self._settings.checkpoint_seconds
                    self._sign(sequencer)
                if now >= next_hold:
                    next_hold = now + SEQUENCER_SECONDS / 4
                    sequencer.hold()
                    if self._better_placed(conn):
                        return
                if now >= next_tidy:
                    next_tidy = now + TIDY_SECONDS
                    rows.forget_nodes(conn)
                    forget_changes(conn, rows.database_time(conn))
            if not sequencer.behind:
                self._ending.wait(PLACE_SECONDS)

    def _sign(self, sequencer: Sequencer) -> None:
        """Have the loop sign what has a place, and keep it. A sealed node has nothing to sign with."""
        if sequencer.size == sequencer.signed:
            return
        answered = threading.Event()
        made: list[tuple[str, int]] = []
        size, root = sequencer.size, sequencer.root()

        def sign() -> None:
            at = max(self._desk.clock.now(), sequencer.newest)
            note = self._desk.log.sign(size, root, at)
            if note is not None:
                made.append((note, at))
            answered.set()

        self._desk.on_loop(sign)
        if answered.wait(STATEMENT_SECONDS) and made:
            sequencer.sign(made[0][0], size, root, made[0][1])


def new_name(random: Callable[[int], bytes]) -> str:
    """Return the name of a process, which none had before: 16 letters, 80 bits of chance."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    number = int.from_bytes(random(10), "big")
    return "".join(letters[number >> shift & 31] for shift in range(0, 80, 5))

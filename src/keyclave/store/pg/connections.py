"""The connections of one process to PostgreSQL: one that writes, a few that read, and a keeper that makes them anew.

Only the keeper's thread ever connects (after the start), so nobody who waits for an answer waits for a connect time-out. As soon
as one connection turns out to be lost the whole database counts as gone: whoever asks is told so at once, until the keeper has
got through again and replaced what was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from keyclave.core.errors import KeyclaveError, Unavailable
from keyclave.store.memory_only import check_look_up
from keyclave.store.pg import faults, texts
from keyclave.store.pg.address import Address
from keyclave.store.pg.deadlines import Deadlines
from keyclave.store.pg.lane import Lane

logger = logging.getLogger("keyclave.store")

READERS = 6
# A writer that is stopped in its transaction may hold the lock of the changes, for which every other node waits.
_HOLD_NO_LONGER = "SET idle_in_transaction_session_timeout = 1500"
BUSY_SECONDS = 2.0  # to wait for a connection that others use
_PROVE_SECONDS = 1.0
_PAUSE = 0.1  # seconds between two tries of the keeper, and up to twice as much: nodes do not come back all at once


def open_engine(address: Address) -> Engine:
    """Return an engine whose connections are made anew each time, in autocommit: transactions are begun by whoever needs one."""

    def connect() -> psycopg.Connection[Any]:
        return texts.prepare(psycopg.connect(**address.parameters(), autocommit=True))

    return create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=NullPool, use_native_hstore=False, hide_parameters=True
    )


def open_connection(engine: Engine) -> Connection:
    """Connect, or raise a fault of the driver."""
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def driver_of(conn: Connection) -> psycopg.Connection[Any]:
    """Return the driver's own connection."""
    return conn.connection.driver_connection  # type: ignore[return-value]


def is_lost(conn: Connection, fault: BaseException) -> bool:
    """Tell whether a connection is of no use any more: cut, or to a server that takes no writes."""
    return faults.state_of(fault) == faults.READ_ONLY or is_dead(conn)


def is_dead(conn: Connection) -> bool:
    """Tell whether nothing can be asked over a connection any more."""
    if conn.closed or conn.invalidated:  # SQLAlchemy has noticed it already
        return True
    driver = driver_of(conn)
    return driver.closed or driver.broken


class Connections:
    """See the module."""

    def __init__(self, address: Address, loop: asyncio.AbstractEventLoop | None = None, readers: int = READERS) -> None:
        """Connect; where there is an event loop, with a connection of its own for that."""
        self.address = address
        self.deadlines = Deadlines()
        self.gone = False
        self._engine = open_engine(address)
        self._lock = threading.Lock()  # held for moments only: never while something is connected
        self._wanted = threading.Event()
        self._lost: list[Connection] = []
        self._losses = self._proven = 0
        self._here = threading.Event()  # set while the database is not gone
        self._here.set()
        self._closing = False
        self._readers: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._missing = readers  # readers to be made anew
        self._writer: Connection | None = None
        self._loop = loop
        self._lane: Lane | None = None
        self._left: list[Lane] = []  # lanes that others have replaced; the loop closes them
        try:
            self._fill()
        except faults.FAULTS as fault:
            self.deadlines.close()
            raise faults.refused(fault, address.shown) from None
        self._keeper = threading.Thread(target=self._keep, name="keyclave-connections", daemon=True)
        self._keeper.start()

    # ---- the keeper -------------------------------------------------------------------------------------------------------
    def _fill(self) -> None:
        if self._writer is None:
            self._writer = open_connection(self._engine)
            driver_of(self._writer).execute(_HOLD_NO_LONGER)
        if self._loop is not None and self._lane is None:
            self._lane = Lane(open_connection(self._engine), self._loop, self.deadlines, self.lose)
        while self._missing:
            self._readers.put(open_connection(self._engine))
            self._missing -= 1

    def _keep(self) -> None:
        said = 0.0
        while self._wanted.wait() and not self._closing:
            try:
                if self._replace():
                    logger.info("%s answers again", self.address.shown)
            except (*faults.FAULTS, KeyclaveError) as fault:
                if time.monotonic() > said + 10:
                    said = time.monotonic()
                    reason = fault if isinstance(fault, KeyclaveError) else faults.refused(fault, self.address.shown)
                    logger.warning("%s → %s", reason.detail, reason.hint)
                time.sleep(_PAUSE * (1 + random.random()))  # noqa: S311 - it only spreads the tries of many nodes
            except Exception:  # without this thread the store would be gone for good
                logger.exception("the connections could not be made anew, and are tried again")
                time.sleep(_PAUSE * (1 + random.random()))  # noqa: S311

    def _replace(self) -> bool:
        """Make anew what was lost; return whether nothing else was lost meanwhile."""
        with self._lock:
            lost, self._lost = self._lost, []
            self._wanted.clear()
        if self._lane is not None:  # cannot be asked from here, and may be lost with the others
            self._left.append(self._lane)
            self._lane = None
        for conn in lost:
            if conn is self._writer:
                self._writer = None
            else:
                self._missing += 1
            with contextlib.suppress(Exception):
                conn.invalidate()
            with contextlib.suppress(Exception):
                conn.close()
        try:
            self._fill()
            self._prove_idle()
            self._fill()
        except BaseException:
            self._wanted.set()
            raise
        with self._lock:
            self.gone = bool(self._lost)
            if not self.gone:
                self._here.set()
            return not self.gone

    def _prove_idle(self) -> None:
        """Where one was lost the others may be lost as well: ask each that nobody has borrowed."""
        idle: list[Connection] = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._readers.get_nowait())
        for conn in idle:
            try:
                self.prove(conn)
                self._readers.put(conn)
            except faults.FAULTS:
                self._missing += 1
                with contextlib.suppress(Exception):
                    conn.invalidate()
                    conn.close()

    def prove(self, conn: Connection) -> None:
        """Ask something of a connection, to learn whether it still leads anywhere."""
        with self.deadlines.within(_PROVE_SECONDS, driver_of(conn)):
            driver_of(conn).execute("SELECT 1")

    def lose(self, conn: Connection | None = None) -> None:
        """Give up a lost connection: from now on the database is gone, until the keeper gets through. None: the loop's own."""
        with self._lock:
            self.gone = True
            self._here.clear()
            self._losses += 1
            if conn is not None:
                self._lost.append(conn)
            self._wanted.set()

    def wait(self, seconds: float) -> bool:
        """Wait until the database is here again; tell whether it is. Never on the loop."""
        return self._here.wait(seconds)

    # ---- lending ----------------------------------------------------------------------------------------------------------
    def writer(self) -> Connection:
        """Return the writing connection. Only for the writing thread."""
        writer = self._writer
        if self.gone or writer is None:
            raise faults.gone()
        return writer

    def lane(self) -> Lane | None:
        """Return the loop's connection, if the database is here. Only on the loop."""
        while self._left and not self._left[-1].busy:
            self._left.pop().close()
        lane = self._lane
        return None if self.gone or lane is None or lane.busy or lane.stranded else lane

    def finish(self, seconds: float) -> bool:
        """Wait, on the loop's own thread, for what is on its way on its connection; False if nothing is."""
        for lane in (self._lane, *self._left):
            if lane is not None and lane.busy:
                lane.finish(seconds)
                return True
        return False

    def prove_writer(self, conn: Connection) -> None:
        """Ask the writing connection whether it leads anywhere, if another one was lost since it was last asked."""
        losses = self._losses
        if losses != self._proven:
            self.prove(conn)
            self._proven = losses

    @contextmanager
    def lend(self, seconds: float) -> Iterator[Connection]:
        """Lend a connection for so long at most, from any thread. What it meets comes out as `Unavailable`."""
        check_look_up()
        if self.gone:
            raise faults.gone()
        try:
            conn = self._readers.get(timeout=BUSY_SECONDS)
        except queue.Empty:
            raise Unavailable("every connection to the database is busy", "repeat the request in a moment") from None
        lost = False
        try:
            with self.deadlines.within(seconds, driver_of(conn)):
                yield conn
        except faults.FAULTS as fault:
            lost = is_lost(conn, fault)
            if not lost:
                self.tidy(conn)
            raise
        except BaseException:
            self.tidy(conn)
            raise
        finally:
            if lost or is_dead(conn):
                self.lose(conn)
            else:
                self._readers.put(conn)

    @staticmethod
    def tidy(conn: Connection) -> None:
        """End a transaction that was left open."""
        if is_dead(conn):
            return
        driver = driver_of(conn)
        if driver.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            with contextlib.suppress(*faults.FAULTS):
                driver.execute("ROLLBACK")

    def close(self) -> None:
        """Close everything."""
        self._closing = True
        self._wanted.set()
        self._keeper.join()
        while not self._readers.empty():
            self._readers.get_nowait().close()
        for lane in (*self._left, self._lane):
            if lane is not None:
                lane.close()
        if self._writer is not None:
            self._writer.close()
        self._engine.dispose()
        self.deadlines.close()

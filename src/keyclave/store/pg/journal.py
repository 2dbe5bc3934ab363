"""The group writer: what a group of units is in the database. All this runs on the writing thread.

Events alone go by the loop's own lane, unless something is wrong with it.

events      INSERT INTO journal          one statement, one commit: all events of the group, numbered by this node itself
the rest    BEGIN SERIALIZABLE; LOCK     one node at a time: what would fail to serialize waits instead
            each change                  inside a savepoint: a refusal undoes itself and leaves its refusal event instead
            INSERT INTO journal
            what changed, and NOTIFY     the other nodes drop it from memory
            COMMIT                       tried again, a bounded number of times, where it stood in another one's way
"""

from __future__ import annotations

import logging
import time

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from keyclave.core.errors import Broken, KeyclaveError
from keyclave.store.changes import keep_changes
from keyclave.store.entries import pack
from keyclave.store.interface import Unit
from keyclave.store.pg import deadlines, faults, outcome
from keyclave.store.pg.connections import Connections, driver_of, is_lost
from keyclave.store.pg.outcome import UnknownOutcome
from keyclave.store.pg.transactions import BEGIN_CHANGE, Transactions, durably, pauses
from keyclave.store.savepoints import broken_rule, keep_unit

logger = logging.getLogger("keyclave.store")

CHANNEL = "keyclave_changes"
_INSERT = "INSERT INTO journal (node, first, count, entries) VALUES (%s, %s, %s, %b)"
_HEAD = "SELECT first + count FROM journal WHERE node = %s ORDER BY first DESC LIMIT 1"
_NOTIFY = f"SELECT pg_notify('{CHANNEL}', %s)"


class Journal:
    """This node's part of the log, in its own order."""

    def __init__(self, node: str, connections: Connections, transactions: Transactions) -> None:
        self._node = node
        self._connections = connections
        self._transactions = transactions
        self.first = 0  # the number of the next event; whose turn it is, loop or thread, may touch it
        self.unsure = False  # whether it has to be read again

    def keep(self, part: list[Unit]) -> None:
        """Make units durable, all of them changes or none, or raise: then nothing of it happened, or it is not known."""
        write = self._change if part[0].changes else self._use
        for pause in pauses():
            conn = self._connections.writer()
            try:
                with self._connections.deadlines.within(deadlines.WRITE_SECONDS, driver_of(conn)):
                    self._connections.prove_writer(conn)
                    if self.unsure:
                        self._look_again(conn)
                    leaves = write(conn, part)
                self.first += len(leaves)
                return
            except UnknownOutcome as open_end:
                self._connections.lose(conn)
                self.find_out(open_end)
                return
            except faults.FAULTS as fault:
                self.unsure = True
                if is_lost(conn, fault):  # before the last act: nothing of it happened
                    self._connections.lose(conn)
                    if pause is None or not self._connections.wait(deadlines.RESOLVE_SECONDS):
                        raise faults.gone() from fault
                    continue
                self._connections.tidy(conn)
                if pause is None or not (faults.worth_another_try(fault) or outcome.took_our_number(fault)):
                    raise
            except BaseException:
                self.unsure = True
                self._connections.tidy(conn)
                raise
            time.sleep(pause)

    def find_out(self, open_end: UnknownOutcome) -> None:
        """Return if the row was kept whose connection was lost; else, or where it is not known, raise `Unavailable`."""
        self.unsure = True
        outcome.resolve(self._transactions, open_end)

    def _look_again(self, conn: Connection) -> None:
        row = driver_of(conn).execute(_HEAD, (self._node,)).fetchone()
        self.first = 0 if row is None else int(row[0])
        self.unsure = False

    def _use(self, conn: Connection, part: list[Unit]) -> list[bytes]:
        """Keep events alone. Uses of keys that are accounted for on the way are kept by themselves, before: never too few."""
        leaves: list[bytes] = []
        for unit in part:
            leaves += unit.change(conn, self.first + len(leaves))
        self._last_act(conn, _INSERT, leaves)
        return leaves

    def _change(self, conn: Connection, part: list[Unit]) -> list[bytes]:
        driver = driver_of(conn)
        driver.execute(BEGIN_CHANGE)
        leaves: list[bytes] = []
        for unit in part:
            leaves += keep_unit(driver.execute, conn, unit, self.first + len(leaves), _refusal_of)
        driver.execute(_INSERT, (self._node, self.first, len(leaves), pack(leaves)))
        names = [name for unit in part for name in unit.touched()]
        if names:
            driver.execute(_NOTIFY, (str(keep_changes(conn, self._node, names)),))
        self._last_act(conn, "COMMIT", leaves)
        return leaves

    def _last_act(self, conn: Connection, statement: str, leaves: list[bytes]) -> None:
        """Do what makes it durable. If the connection is lost meanwhile it is not known whether it did."""
        packed = pack(leaves)
        parameters = None if statement == "COMMIT" else (self._node, self.first, len(leaves), packed)
        try:
            durably(driver_of(conn), statement, parameters)
        except faults.FAULTS as fault:
            if is_lost(conn, fault) and faults.state_of(fault) != faults.READ_ONLY:
                raise UnknownOutcome(self._node, self.first, packed, len(leaves)) from fault
            raise


def _refusal_of(fault: Exception) -> KeyclaveError | None:
    """Return what a unit is refused with whose change the database refused; other faults concern the whole transaction."""
    if not isinstance(fault, faults.FAULTS):
        return None
    if faults.state_of(fault).startswith("23") or isinstance(fault, IntegrityError):
        return broken_rule()
    if isinstance(fault, DataError | ProgrammingError):
        logger.error("the database does not take a change: %s", fault.orig)
        return Broken("the database does not take the change", "see the server's log")
    raise fault

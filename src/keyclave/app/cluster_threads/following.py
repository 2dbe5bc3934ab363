"""The follower's thread.

it asks for changes (woken by NOTIFY, else every `POLL_SECONDS`) -> the loop drops them -> it renews the row -> lease
"""

from __future__ import annotations

import logging
import threading
import time

import psycopg
from sqlalchemy import Connection

from keyclave import __version__
from keyclave.app.cluster_threads.clocks import Clocks
from keyclave.app.cluster_threads.ground import POLL_SECONDS, Ground, Part
from keyclave.core.clock import MICROSECONDS
from keyclave.operations.invalidation import follow
from keyclave.operations.nodes.follower import Follower, Question
from keyclave.operations.nodes.lease import PATIENCE, steady
from keyclave.store import nodes as rows
from keyclave.store.changes import last_change
from keyclave.store.pg.connections import driver_of
from keyclave.store.pg.journal import CHANNEL
from keyclave.store.versions import revision

logger = logging.getLogger("keyclave.nodes")


class Following(Part):
    """Keeps the lease alive by applying what others change."""

    name = "follower"

    def __init__(self, ground: Ground, clocks: Clocks) -> None:
        self._ground = ground
        self._contact = ground.contact
        self._clocks = clocks
        self._follower: Follower | None = None
        self._told = (True, False)  # whether it is sealed, and drains, as its row says

    def begins(self) -> None:
        """A connection is asked for, and so the database."""
        self._contact.asking()

    def lost(self) -> None:
        """The database does not answer."""
        self._contact.failed()

    def round(self, conn: Connection) -> None:
        """Follow, until the end."""
        driver = driver_of(conn)
        with self._ground.within(conn):
            driver.execute(f"LISTEN {CHANNEL}")
            if self._follower is None:  # what was loaded before has not been told of: begin from here, with nothing
                self._follower = Follower(last_change(conn), self._ground.settings.lease_seconds)
        self._contact.answered()
        while not self._ground.ending.is_set():
            question = self._ask(conn, self._follower)
            if self._must_renew(question, self._follower) and self._apply(question):
                self._renew(conn, question, self._follower)
            for _ in driver.notifies(timeout=POLL_SECONDS, stop_after=1):
                pass

    def _must_renew(self, question: Question, follower: Follower) -> bool:
        """Tell whether there is anything to say, or to prolong. Who has only announced itself asks again at once."""
        desk = self._ground.desk
        told = self._told == (desk.vault.sealed, desk.draining)
        return follower.must_renew(question) or not told or not self._ground.membership.lease.live

    def _ask(self, conn: Connection, follower: Follower) -> Question:
        with self._ground.within(conn):
            self._contact.asking()
            asked, wall = steady(), time.time_ns() // 1000
            change, news, now = rows.read_news(conn, follower.applied, self._ground.node)
            took = steady() - asked
            self._contact.answered()
            question = follower.read(asked, change, news)
            if self._must_renew(question, follower):
                self._clocks.compare(now, wall, took)
        return question

    def _apply(self, question: Question) -> bool:
        """Let the loop drop what was changed and answer what was under way; a loop that is stuck lets the lease run out."""
        applied = threading.Event()
        desk = self._ground.desk
        desk.on_loop(follow, desk, question, applied.set)
        while not applied.wait(POLL_SECONDS):
            if self._ground.ending.is_set():
                return False
        return True

    def _renew(self, conn: Connection, question: Question, follower: Follower) -> None:
        follower.was_applied(question)
        told, known = self._say(conn, question)
        self._contact.answered()
        follower.was_renewed(question)
        self._ground.complaints.over(self.name)
        self._told = told
        lease, settings = self._ground.membership.lease, self._ground.settings
        if not known:
            lease.announced(question.asked)
        elif lease.renewed(question.asked):
            self._contact.held()
            if self._ground.complaints.first("lease"):
                logger.info("node %s serves with a lease of %s s", self._ground.node, settings.lease_seconds)

    def _say(self, conn: Connection, question: Question) -> tuple[tuple[bool, bool], bool]:
        """Write the node's row; return what it says of being sealed and draining, and whether others knew the node before."""
        desk, settings = self._ground.desk, self._ground.settings
        told = desk.vault.sealed, desk.draining
        said = rows.Node(
            id=self._ground.node, address=settings.address, version=__version__, schema=revision(), started_at=0, seen_at=0,
            applied=question.change, lease_until=0, skew=self._clocks.skew, sealed=told[0], draining=told[1],
            stale=int(settings.stale_seconds * MICROSECONDS),
        )  # fmt: skip
        driver = driver_of(conn)
        warned: list[psycopg.errors.Diagnostic] = []
        driver.add_notice_handler(warned.append)
        try:
            with self._ground.within(conn):
                self._contact.asking()
                known = rows.renew(conn, said, int(PATIENCE * settings.lease_seconds * MICROSECONDS))
        finally:
            driver.remove_notice_handler(warned.append)
        if warned:  # committed here only: after a failover the others would not know of it
            self._contact.answered()
            raise psycopg.OperationalError(f"a renewal was not replicated: {warned[0].message_primary}")
        return told, known

"""The sequencer's thread, at work on one node at a time: places, full tiles, checkpoints."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from sqlalchemy import Connection

from keyclave.app.cluster_threads.ground import STATEMENT_SECONDS, Ground, Part
from keyclave.core.clock import MICROSECONDS
from keyclave.operations.nodes.sequencer import LEASE, Sequencer
from keyclave.store import nodes as rows
from keyclave.store.changes import forget_changes
from keyclave.store.pg.faults import FAULTS

logger = logging.getLogger("keyclave.nodes")

SEQUENCER_SECONDS = 2.5  # of the sequencer's lease: a dead one is replaced within that and a look
LOOK_SECONDS = 0.25
PLACE_SECONDS = 0.1  # between two looks at what has no place yet: a look costs as much for a thousand events as for one
TIDY_SECONDS = 600.0  # between two clearings of rows that nobody needs any more


class Placing(Part):
    """Is the sequencer, when nobody else is."""

    name = "sequencer"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def round(self, conn: Connection) -> None:
        """Stand ready, and do it, until the end."""
        ground = self._ground
        length = int(SEQUENCER_SECONDS * MICROSECONDS)
        while not ground.ending.is_set():
            with ground.within(conn):
                fence = None if self._better_placed(conn) else rows.take_lease(conn, LEASE, ground.node, length)
            if fence is None:
                ground.ending.wait(LOOK_SECONDS)
                continue
            self._lead(conn, Sequencer(conn, ground.node, fence, length))
            with suppress(*FAULTS), ground.within(conn):
                rows.give_lease(conn, LEASE, ground.node, fence)

    def _better_placed(self, conn: Connection) -> bool:
        """Tell whether an unsealed node lives, so that a sealed one, which cannot sign, leaves it to that."""
        if not self._ground.desk.vault.sealed:
            return False
        now = rows.database_time(conn)
        return any(not row.sealed and not row.draining and row.lease_until > now for row in rows.read_nodes(conn))

    def _lead(self, conn: Connection, sequencer: Sequencer) -> None:
        """Place and sign until the end, or until another node is better placed."""
        ground = self._ground
        logger.info("this node is the sequencer, from event %d", sequencer.size)
        next_note = next_hold = next_tidy = 0.0
        while not ground.ending.is_set():
            with ground.within(conn, 2 * STATEMENT_SECONDS):
                sequencer.look()
                now = time.monotonic()
                if now >= next_note:
                    next_note = now + ground.settings.checkpoint_seconds
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
                ground.ending.wait(PLACE_SECONDS)

    def _sign(self, sequencer: Sequencer) -> None:
        """Have the loop sign what has a place, and keep it. A sealed node has nothing to sign with."""
        if sequencer.size == sequencer.signed:
            return
        desk = self._ground.desk
        answered = threading.Event()
        made: list[tuple[str, int]] = []
        size, root = sequencer.size, sequencer.root()

        def sign() -> None:
            at = max(desk.clock.now(), sequencer.newest)
            note = desk.log.sign(size, root, at)
            if note is not None:
                made.append((note, at))
            answered.set()

        desk.on_loop(sign)
        if answered.wait(STATEMENT_SECONDS) and made:
            sequencer.sign(made[0][0], size, root, made[0][1])

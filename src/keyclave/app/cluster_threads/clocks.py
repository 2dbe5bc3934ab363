"""This machine's clock beside the database's: what expires must do so at the same time everywhere."""

from __future__ import annotations

import logging
import time

from keyclave.core.clock import MICROSECONDS, SystemClock
from keyclave.operations.nodes.membership import Membership

logger = logging.getLogger("keyclave.nodes")

_AGREED_SECONDS = 2.0  # that two clocks count as agreeing after they were compared


class Clocks:
    """`skew` is by how many microseconds this machine is ahead, as last compared."""

    def __init__(self, membership: Membership, skew_seconds: float) -> None:
        self._membership = membership
        self._most = skew_seconds * MICROSECONDS
        self.shown: SystemClock | None = None  # what tells the time here
        self.skew = 0
        self._wrong_before = False
        self._said_ahead = False

    def compare(self, database: int, wall: int, took: float) -> None:
        """Refuse while this machine's clock is far from the database's: what expires would do so at the wrong time here.

        `wall` is this machine's time before it asked (microseconds), `took` how many seconds the answer took.
        """
        after = time.time_ns() // 1000
        if took > 1 or after - wall > 2 * MICROSECONDS:
            return
        membership = self._membership
        self.skew = (wall + after) // 2 - database
        wrong = abs(self.skew) > self._most
        if wrong and self._wrong_before and not membership.fault:
            way = "before" if self.skew > 0 else "behind"
            membership.fault = f"this node's clock is {abs(self.skew) / MICROSECONDS:.0f} s {way} the database's"
            logger.error("%s: it refuses to serve until that is set right", membership.fault)
        elif not wrong and membership.fault:
            membership.fault = ""
            logger.warning("this node's clock agrees with the database's again")
        self._wrong_before = wrong
        if not wrong and self.shown is not None:
            self._follow_back(self.shown, max(0, -self.skew))

    def _follow_back(self, clock: SystemClock, short: int) -> None:
        """This machine's clock and the database's agree: a time that is ahead of both, for one of them was wrong, comes back."""
        ahead = clock.follow_back(_AGREED_SECONDS, short)
        if ahead and not self._said_ahead:
            logger.warning(
                "time here is %.1f s ahead of this machine's clock and the database's: it goes on at a sixteenth of its pace "
                "until they have caught up", ahead / MICROSECONDS,
            )  # fmt: skip
        self._said_ahead = ahead > 0

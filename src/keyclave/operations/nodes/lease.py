"""How long a node may rest on what it holds in memory: its lease, by its own clock.

A node asks what was changed, drops it, and has its row renewed. The lease counts from before the question was sent, so whatever
was changed earlier than that is dropped. Whoever changes something waits `PATIENCE` times as long for a silent node as that node
trusts itself: their clocks may differ in pace by a quarter.

A renewal counts only if the node's row was live without a break since an earlier one. Otherwise it only announces the node: while
the row looked dead, somebody may have passed it by, after the node's question and before its renewal. From the announcement on
everybody waits for it, so the next question sees all that was done before.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 1.25


def steady() -> float:
    """Return seconds on a clock that nobody sets, and that goes on while the machine sleeps (CLOCK_BOOTTIME of Linux)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One node's lease. The follower's thread renews it, the event loop asks for it."""

    __slots__ = ("_clock", "_seen_until", "_until", "seconds")

    def __init__(self, seconds: float, clock: Callable[[], float] = steady) -> None:
        self.seconds = seconds
        self._clock = clock
        self._seen_until = self._until = float("-inf")

    def renewed(self, asked: float) -> bool:
        """The row is renewed, on the strength of a question sent at `asked`. Return whether the lease holds now."""
        unbroken = self._clock() < self._seen_until
        self._seen_until = asked + self.seconds
        if unbroken:
            self._until = self._seen_until
        return unbroken

    def announced(self, asked: float) -> None:
        """The row was gone, or not as it should be, and is written anew: others may have passed this node by meanwhile."""
        self._seen_until = asked + self.seconds

    def give_back(self) -> None:
        """Use nothing any more: from now on nobody needs to wait for this node."""
        self._seen_until = self._until = float("-inf")

    @property
    def live(self) -> bool:
        """Tell whether the node may use what it holds."""
        return self._clock() < self._until

    def over_for_less_than(self, seconds: float) -> bool:
        """Tell whether the lease is live, or ended less than so many seconds ago."""
        return self._clock() < self._until + seconds

    @property
    def asked(self) -> float:
        """When the question was asked on which the lease rests, also one that is over; by the lease's clock."""
        return self._until - self.seconds

    @property
    def age(self) -> float:
        """How many seconds ago that was."""
        return self._clock() - self.asked

"""Time: whole microseconds since 1970-01-01 UTC, never going back within a process.

The order of events is the order of the log, not of the clock; yet an expiry must not be extended by setting the clock back,
so the clock holds at the largest time it has shown until the machine's clock has caught up.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

MICROSECONDS = 1_000_000


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """Return microseconds since the epoch, never less than an earlier answer."""
        ...

    def behind(self) -> int:
        """Return by how many microseconds the machine's clock is behind what was already shown."""
        ...


class SystemClock:
    """The machine's clock, held from going back; `floor` is the latest time known from before the start (the log's last
    event)."""

    def __init__(self, floor: int = 0) -> None:
        self._latest = floor

    def now(self) -> int:
        """Return microseconds since the epoch."""
        now = time.time_ns() // 1000
        self._latest = max(self._latest, now)
        return self._latest

    def raise_floor(self, floor: int) -> None:
        """Never show a time before `floor` from now on."""
        self._latest = max(self._latest, floor)

    def behind(self) -> int:
        """Return by how many microseconds the machine's clock is behind what was already shown (0 when it is not)."""
        return max(0, self._latest - time.time_ns() // 1000)


def to_text(at: int) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(at / MICROSECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

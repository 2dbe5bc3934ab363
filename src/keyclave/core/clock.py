"""Time: whole microseconds since 1970-01-01 UTC, never going back and never standing still.

The order of events is the order of the log, not of the clock; yet an expiry must not be extended by setting the clock back.
"""

from __future__ import annotations

import functools
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
    """The machine's clock, carried on by the monotonic one when it is set back.

    Set back an hour, time goes on at its own pace from where it was; set forward, it jumps along. `floor` is the latest time
    known from before the start (the log's last event).
    """

    def __init__(self, floor: int = 0) -> None:
        self._ahead = floor - _steady()  # how far the time is ahead of the monotonic clock: it only ever grows

    def now(self) -> int:
        """Return microseconds since the epoch."""
        steady = _steady()
        ahead = time.time_ns() // 1000 - steady
        if ahead > self._ahead:  # noqa: PLR1730 - twice in each request, and calling max costs as much again
            self._ahead = ahead
        return steady + self._ahead

    def behind(self) -> int:
        """Return by how many microseconds the machine's clock is behind the time (0 when it is not)."""
        return max(0, self.now() - time.time_ns() // 1000)


def _steady() -> int:
    return time.monotonic_ns() // 1000


def to_text(at: int) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    seconds, micros = divmod(at, MICROSECONDS)
    return f"{_second(seconds)}.{micros:06}Z"


@functools.lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]

"""Time: whole microseconds since 1970-01-01 UTC, never going back and never standing still.

The order of events is the order of the log, not of the clock; yet an expiry must not be extended by setting the clock back.
"""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

MICROSECONDS = 1_000_000
_WORTH = MICROSECONDS // 10  # ahead by less is the ordinary slewing of a clock
_PACE = 16
_LATER = MICROSECONDS // 4


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

    One clock alone cannot tell whether it was wrong before it was set back, or is so now. Where a second one, of another
    machine, agrees with it (`follow_back`), it was wrong before: then time goes on at a sixteenth of its pace until the machine's
    clock has caught up. It never goes back for that, and is never behind the machine's.
    """

    def __init__(self, floor: int = 0) -> None:
        self._ahead = floor - _steady()  # how far the time is ahead of the monotonic clock
        self._slow: _Slow | None = None

    def now(self) -> int:
        """Return microseconds since the epoch."""
        steady = time.monotonic_ns() // 1000
        ahead = time.time_ns() // 1000 - steady
        if self._slow is not None:
            return self._slowly(self._slow, steady, ahead)
        if ahead > self._ahead:  # noqa: PLR1730 - twice in each request, and calling max costs as much again
            self._ahead = ahead
        return steady + self._ahead

    def behind(self) -> int:
        """Return by how many microseconds the machine's clock is behind the time (0 when it is not)."""
        return max(0, self.now() - time.time_ns() // 1000)

    def follow_back(self, seconds: float, short: int = 0) -> int:
        """A second clock agrees with the machine's, which may be `short` microseconds behind it: follow both back.

        To be said again within `seconds`: after that the machine's clock may have been set to anything, and time goes on at its
        full pace. Return by how many microseconds it is still ahead.
        """
        over = max(0, self.behind() - short)
        steady, slow = _steady(), self._slow
        until = steady + int(seconds * MICROSECONDS)
        if slow is None and over >= _WORTH:
            since = steady + _LATER  # whoever asks at this very moment on another thread is given the same either way
            self._slow = _Slow(since + self._ahead, since, until, short)
        elif slow is not None and slow.until > steady + _LATER:
            self._slow = slow._replace(until=until, short=short)
        return over

    def _slowly(self, slow: _Slow, steady: int, ahead: int) -> int:
        """Return the time while it goes slower, and end that when the clocks have caught up, or nobody said that they agree."""
        passed = min(steady, slow.until) - slow.since
        shown = slow.shown + (passed // _PACE if passed > 0 else passed) + max(0, steady - slow.until)
        if steady + ahead + slow.short >= shown or steady > slow.until:
            shown = max(shown, steady + ahead)
            self._ahead, self._slow = shown - steady, None
        return shown


class _Slow(NamedTuple):
    """What the time shows when it begins to go slower, when that is by the steady clock, until when it holds, and up to where."""

    shown: int
    since: int
    until: int
    short: int


def _steady() -> int:
    return time.monotonic_ns() // 1000


def to_text(at: int) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    seconds, micros = divmod(at, MICROSECONDS)
    return f"{_second(seconds)}.{micros:06}Z"


@functools.lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]

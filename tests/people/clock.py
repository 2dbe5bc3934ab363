"""A clock that stands until it is set."""

from __future__ import annotations

import time

from keyclave.core.clock import MICROSECONDS


class Clock:
    """An hour ahead of the machine's, so that nothing made before is from its future."""

    def __init__(self) -> None:
        self.time = time.time_ns() // 1000 + 3600 * MICROSECONDS

    def now(self) -> int:
        return self.time

    def behind(self) -> int:
        return 0

    def pass_by(self, seconds: float) -> None:
        self.time += int(seconds * MICROSECONDS)

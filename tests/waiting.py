"""Waiting for a condition: never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 20


def until(condition: Callable[[], bool], complaint: str, seconds: float = SECONDS) -> float:
    """Wait for a condition; return how long it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + seconds:
            raise AssertionError(complaint)
        time.sleep(0.01)  # between two looks at it
    return time.monotonic() - began

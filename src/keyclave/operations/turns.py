"""Whose slow work is done next: everybody's in turn, a portion at a time, so that nobody's holds up everybody else's.

The worker threads are few. Handed over in the order in which it came, four batches of RSA keys of one application had whoever
lists keys wait for all of them. So each principal has a line of its own for what it makes, and another for what it reads, and the
lines take turns. What is made never has all threads, so one is always left for those who read; and of the rest no line has all.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock
from typing import NamedTuple

THREADS = 5
"""Of the executor that does it: four for making things, of which three for one principal, and one for reading."""

Portions = Iterator[None]
"""Slow work: each step does a portion of it, the last one ends it. It deals with its own errors."""

_OVER = object()

logger = logging.getLogger("keyclave.operations")


class Line(NamedTuple):
    """Whose work waits one behind the other."""

    tenant: str
    principal: str
    reads: bool  # a moment's work on a worker thread, unlike what makes or uses keys


class Turns:
    """Hands slow work to worker threads: `start` has one of them run what it is given."""

    def __init__(self, start: Callable[[Callable[[], None]], object], threads: int = THREADS) -> None:
        self._start = start
        self._threads = threads
        self._lock = Lock()
        self._waiting: dict[Line, deque[Portions]] = {}  # the line whose turn is next comes first
        self._busy: dict[Line, int] = {}  # threads that work on it now
        self._running = 0  # threads that take turns
        self._closed = False

    def submit(self, line: Line, work: Portions) -> None:
        """Have work done when its turn comes; nothing any more, once it is closed."""
        with self._lock:
            if not self._closed:
                self._waiting.setdefault(line, deque()).append(work)
        self._call_thread()

    def close(self) -> None:
        """Let go of what waits, and of what is under way after the portion at hand: who asked for it is no longer there."""
        with self._lock:
            self._closed = True
            self._waiting.clear()

    # ---- on the worker threads ------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while (turn := self._take()) is not None:
            line, work = turn
            self._call_thread()  # there may be a turn for another one now
            goes_on = False
            try:
                goes_on = next(work, _OVER) is not _OVER
            except Exception:
                logger.exception("slow work failed")
            finally:
                self._put_back(line, work if goes_on else None)

    def _take(self) -> tuple[Line, Portions] | None:
        """Take the next turn; without one, the thread is no longer one of those that take turns."""
        with self._lock:
            line = self._next()
            if line is None:
                self._running -= 1
                return None
            works = self._waiting.pop(line)
            work = works.popleft()
            if works:
                self._waiting[line] = works  # behind everybody else's
            self._busy[line] = self._busy.get(line, 0) + 1
            return line, work

    def _put_back(self, line: Line, work: Portions | None) -> None:
        with self._lock:
            self._busy[line] -= 1
            if not self._busy[line]:
                del self._busy[line]
            if work is not None and not self._closed:
                self._waiting.setdefault(line, deque()).append(work)

    # ---- whose turn it is -----------------------------------------------------------------------------------------------
    def _next(self) -> Line | None:
        """Return the first line that may have a thread more."""
        making = sum(threads for line, threads in self._busy.items() if not line.reads)
        for line in self._waiting:
            if self._busy.get(line, 0) < self._threads - 2 and (line.reads or making < self._threads - 1):
                return line
        return None

    def _call_thread(self) -> None:
        """Have a further thread take turns, if there is one, and a turn for it."""
        with self._lock:
            if self._running == self._threads or self._next() is None:
                return
            self._running += 1
        self._start(self._work)

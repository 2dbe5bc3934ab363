"""Ends a wait for the database that has no end of its own.

The server's own time-outs do not help where the server is frozen or the network swallows its answer. So whoever waits says for
how long, and when that is over the connection's socket is shut down under it: the wait ends with an error at once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

READ_SECONDS = 3.0
WRITE_SECONDS = 6.0  # of one group; the server's own time-outs come first where it is alive
RESOLVE_SECONDS = 3.0  # to find out whether a commit happened whose connection was lost
FLUSH_SECONDS = 10.0
_LOOK = 0.1  # seconds between two looks


class Deadlines:
    """A thread that looks after every wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[int, tuple[float, psycopg.Connection[Any]]] = {}
        self._numbers = itertools.count()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keyclave-deadlines", daemon=True)
        self._thread.start()

    def begin(self, seconds: float, conn: psycopg.Connection[Any]) -> int:
        """Let what begins now take so long and no longer; return the number to `end` it by."""
        number = next(self._numbers)
        self._waits[number] = (time.monotonic() + seconds, conn)
        return number

    def end(self, number: int) -> None:
        """It is over."""
        with self._lock:  # not while it is being shut down: its number may be another file's a moment later
            self._waits.pop(number, None)

    @contextmanager
    def within(self, seconds: float, conn: psycopg.Connection[Any]) -> Iterator[None]:
        """Let what is done inside take so long and no longer."""
        number = self.begin(seconds, conn)
        try:
            yield
        finally:
            self.end(number)

    def _run(self) -> None:
        while not self._end.wait(_LOOK):
            now = time.monotonic()
            with self._lock:
                over = [(number, conn) for number, (end, conn) in list(self._waits.items()) if now > end]
                for number, conn in over:
                    self._waits.pop(number, None)
                    _shut(conn)

    def close(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join()


def _shut(conn: psycopg.Connection[Any]) -> None:
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(conn.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)

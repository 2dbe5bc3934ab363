"""A plain writer to the database: one row every two milliseconds, and the exact list of those that were acknowledged."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import psycopg


@dataclass
class Written:
    """What one writer saw."""

    acknowledged: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)  # the connection was lost before the answer
    gaps: list[tuple[float, float]] = field(default_factory=list)  # (when the last answer before it came, seconds without any)
    latencies: list[float] = field(default_factory=list)  # seconds

    def longest_gap(self, since: float) -> float:
        """Return the longest time without an answer that ended after a moment of the monotonic clock."""
        return max((seconds for at, seconds in self.gaps if at + seconds >= since), default=0.0)


class Writer:
    """Writes until told to stop, and connects again whenever it must."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.written = Written()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS drill_rows")
            connection.execute("CREATE TABLE drill_rows (n bigint PRIMARY KEY)")

    def start(self) -> None:
        """Set it going."""
        self._thread.start()

    @property
    def count(self) -> int:
        """How many rows were acknowledged so far."""
        return len(self.written.acknowledged)

    def stop(self) -> Written:
        """End it and return what it saw."""
        self._end.set()
        self._thread.join()
        return self.written

    def _loop(self) -> None:
        n, last = 0, time.monotonic()
        while not self._end.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    while not self._end.is_set():
                        n += 1
                        self.written.unknown.append(n)
                        began = time.monotonic()
                        connection.execute("INSERT INTO drill_rows VALUES (%s)", (n,))
                        now = time.monotonic()
                        self.written.acknowledged.append(self.written.unknown.pop())
                        self.written.latencies.append(now - began)
                        if now - last > 0.1:
                            self.written.gaps.append((last, now - last))
                        last = now
                        self._end.wait(0.002)
            except psycopg.Error:
                self._end.wait(0.02)

    def present(self) -> tuple[set[int], int]:
        """Return the rows that are there now, and how many of them are there twice."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            rows = [row[0] for row in connection.execute("SELECT n FROM drill_rows")]
        return set(rows), len(rows) - len(set(rows))

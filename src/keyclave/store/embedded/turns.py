"""Whose turn it is to write, among the processes on one SQLite file.

SQLite itself lets only one write, and whoever finds it taken sleeps and looks again, longer each time: under load a process would
wait hundreds of milliseconds for a lock that is free most of the time. With a file lock (flock(2)) the kernel wakes whoever waits
as soon as the turn is given back, also when its holder dies. What is written is kept safe by SQLite's own lock all the same: this
one only says when to try.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Turns:
    """The lock file beside the database. One for each process."""

    def __init__(self, database: Path) -> None:
        self._file = os.open(f"{database}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> None:
        """Wait for the turn. A holder that is stopped keeps it: whoever watches the processes ends those."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def give(self) -> None:
        """Give it back. Without having it, does nothing."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give it back for good."""
        os.close(self._file)


class NoTurns:
    """Nobody else writes."""

    def take(self) -> None:
        """Always."""

    def give(self) -> None:
        """Nothing to give."""

    def close(self) -> None:
        """Nothing to close."""

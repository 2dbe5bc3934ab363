"""Who makes a commit durable: SQLite inside COMMIT, or we right after it.

SQLite syncs its write-ahead log (WAL) inside COMMIT, while it keeps every other process from writing: with several processes the
disk would be waited for one group at a time. So a shared store commits without the sync (PRAGMA synchronous = NORMAL), lets the
next process write, and then syncs the WAL itself, before it answers anybody: the syncs of several processes run at the same time.

Why nothing is lost by that: the WAL is one file, read from its beginning after a crash as far as its chain of checksums holds. A
sync covers everything written to the file before it, so whoever's commit is durable, all commits before it are, and with them
everything it had read. What is copied back into the database is synced by SQLite before the WAL begins anew, in this mode too
(sqlite.org/pragma.html, synchronous; sqlite.org/wal.html). A commit whose sync failed is treated like a COMMIT that failed.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


class OwnSync:
    """We sync the WAL after each commit."""

    def __init__(self, database: Path) -> None:
        self._path = f"{database}-wal"
        self._file = -1
        self._failed = False

    def begin(self, connection: sqlite3.Connection) -> None:
        """Have `connection` commit without a sync. The WAL keeps its inode as long as a connection is open."""
        self._connection = connection
        connection.execute("PRAGMA synchronous = NORMAL")

    def before(self) -> None:
        """Before a commit: see that an earlier failure hides nothing.

        After a sync that failed the kernel may take what it could not write for written, and the next sync would succeed. So the
        whole WAL is copied into the database, and that is synced, before anything is built upon it.
        """
        if self._failed:
            row = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if row[0]:
                raise sqlite3.OperationalError("the write-ahead log cannot be copied back after a sync that failed")
            self._failed = False

    def wait(self) -> None:
        """Return when everything that is committed is durable; raise `sqlite3.OperationalError` if that is not known."""
        try:
            if self._file < 0:  # opened a second time on purpose: no lock lies on this file that closing could drop
                self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            os.fdatasync(self._file)
        except OSError as fault:
            self._failed = True
            raise sqlite3.OperationalError(f"the write-ahead log cannot be synced: {fault.strerror}") from None

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)


class SqliteSyncs:
    """COMMIT has synced when it returns (PRAGMA synchronous = FULL)."""

    def begin(self, connection: sqlite3.Connection) -> None:
        """It is so already."""

    def before(self) -> None:
        """A COMMIT that failed is undone."""

    def wait(self) -> None:
        """It is done already."""

    def close(self) -> None:
        """There is nothing to close."""

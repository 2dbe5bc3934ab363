"""Who makes a commit durable: we, right after it.

SQLite would sync its write-ahead log (WAL) inside COMMIT (PRAGMA synchronous = FULL). Then the one thread stands still until the
disk is done, and every other process is kept from writing meanwhile. So commits are made without the sync (NORMAL), the next
process may write, and the WAL is synced before anybody is answered. Where many wait for the answer, the sync goes on in the
background while their answers are written.

Why nothing is lost by that: the WAL is one file, read from its beginning after a crash as far as its chain of checksums holds. A
sync covers everything written to the file before it, so whoever's commit is durable, all commits before it are, and with them
everything it had read. What is copied back into the database is synced by SQLite before the WAL begins anew, in this mode too
(sqlite.org/pragma.html, synchronous; sqlite.org/wal.html). A commit whose sync failed is treated like a COMMIT that failed.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from keyclave.store.embedded.background_sync import BackgroundSync, available


class Syncs:
    """Syncs the WAL after each commit of a connection."""

    def __init__(self, database: Path, connection: sqlite3.Connection) -> None:
        """Have `connection` commit without a sync. The WAL keeps its inode as long as a connection is open."""
        self._path = f"{database}-wal"
        self._connection = connection
        self._file = -1
        self._background: BackgroundSync | None = None
        self._failed = False
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

    def start(self) -> None:
        """Begin in the background, if that can be; `wait` does the rest."""
        if self._background is not None:
            self._background.start()

    def wait(self) -> None:
        """Return when everything that is committed is durable; raise `sqlite3.OperationalError` if that is not known."""
        try:
            if self._background is not None and self._background.going:
                self._background.wait()
            else:
                os.fdatasync(self._opened())
        except OSError as fault:
            self._failed = True
            raise sqlite3.OperationalError(f"the write-ahead log cannot be synced: {fault.strerror}") from None

    def _opened(self) -> int:
        if self._file < 0:  # opened a second time on purpose: no lock lies on this file that closing could drop
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            self._background = BackgroundSync(self._file) if available() else None
        return self._file

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)

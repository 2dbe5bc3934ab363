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
from contextlib import suppress
from pathlib import Path

from keyclave.store.embedded import file
from keyclave.store.embedded.background_sync import BackgroundSync, available

_PATIENCE = 1000  # milliseconds that those who read are waited for at the start


class Syncs:
    """Syncs the WAL after each commit of a connection."""

    def __init__(self, database: Path, connection: sqlite3.Connection) -> None:
        """Have `connection` commit without a sync.

        The WAL is opened now: the kernel tells of a failed write whoever had the file open by then. What lies in it may have
        failed before, and the process that knew may be gone, so it is copied back like after a failure.
        """
        self._connection = connection
        self._file = _open_log(database, connection)
        self._background = BackgroundSync(self._file) if available() else None
        self._failed = os.fstat(self._file).st_size > 0
        self.lazily()
        if self._failed:
            with suppress(sqlite3.OperationalError):  # somebody reads: before the first commit, then
                self._copy_back(_PATIENCE)

    def lazily(self) -> None:
        """Have commits return before they are durable."""
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def fully(self) -> None:
        """Have commits made durable by SQLite itself, before anybody can read them. Not inside a transaction."""
        self._connection.execute("PRAGMA synchronous = FULL")

    def before(self) -> None:
        """Before a commit: see that an earlier failure hides nothing.

        After a sync that failed the kernel may take what it could not write for written, and the next sync would succeed. So the
        whole WAL is copied into the database, and that is synced, before anything is built upon it.
        """
        if self._background is not None and self._background.going:  # whoever began it was interrupted, and did not wait
            with suppress(OSError):
                self._background.wait()
            self._failed = True
        if self._failed:
            self._copy_back(0)

    def _copy_back(self, patience: int) -> None:
        with file.waiting(self._connection, patience):
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
                os.fdatasync(self._file)
        except OSError as fault:
            self._failed = True
            raise sqlite3.OperationalError(f"the write-ahead log cannot be synced: {fault.strerror}") from None

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def _open_log(database: Path, connection: sqlite3.Connection) -> int:
    """Open the WAL, which SQLite makes when it is first asked, and which keeps its inode as long as a connection is open.

    It is open twice then, on purpose: no lock lies on this file that closing could drop.
    """
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    try:
        return os.open(f"{database}-wal", os.O_RDWR | os.O_CLOEXEC)
    except OSError as fault:
        raise sqlite3.OperationalError(f"the write-ahead log cannot be opened: {fault.strerror}") from None

"""The write-ahead log's length: it is copied back into the database and begun anew, so that it does not fill the disk.

Under steady load there is always a commit that was not copied back yet, so SQLite by itself would never begin the log anew.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from keyclave.store.embedded import file
from keyclave.store.embedded.line import Line

logger = logging.getLogger("keyclave.store")

PAGE = 4096  # bytes
CHECKPOINT_PAGES = 4096  # 16 MiB: beyond it the log is copied back, by another connection on another thread
_LONGEST = 256 << 20  # bytes: beyond it the file is cut, not only begun anew


def _size(database: Path) -> int:
    return Path(f"{database}-wal").stat().st_size


def copy_back(database: Path) -> None:
    """Copy the log back into the database once it is long. Safe from any thread, and off the request path."""
    try:
        if _size(database) < CHECKPOINT_PAGES * PAGE:
            return
        with closing(sqlite3.connect(database, timeout=1)) as conn:
            conn.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except (OSError, sqlite3.Error) as fault:
        logger.warning("the write-ahead log could not be copied back: %s", fault)


def begin_anew(database: Path, line: Line) -> None:
    """Let the log be written from its beginning again, right after `copy_back`: only what came in meanwhile is left to copy.

    Only from the thread that flushes: it writes nothing meanwhile.
    """
    try:
        size = _size(database)
        if size < CHECKPOINT_PAGES * PAGE:
            return
        how = "TRUNCATE" if size > _LONGEST else "RESTART"
        line.turns.take()
        try:
            with file.waiting(line.raw, 0):  # a reader in the way: the next time, then
                line.raw.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        finally:
            line.turns.give()
    except (OSError, sqlite3.Error) as fault:
        logger.warning("the write-ahead log could not be begun anew: %s", fault)

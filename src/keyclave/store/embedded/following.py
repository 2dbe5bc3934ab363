"""What is durable is handed on to the log's tree, and the tiles that it fills on the way are kept with the next commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyclave.core.errors import Broken
from keyclave.store.embedded.line import Line
from keyclave.store.embedded.readers import Readers
from keyclave.store.places import read_log

Follow = Callable[[int, Sequence[bytes]], None]

_AT_ONCE = 4096  # entries
_INSERT_TILE = "INSERT INTO log_tiles (level, number, hashes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


class Following:
    """How far the log has been followed, by whom, and whether what is kept is handed on `at_once` or when somebody asks."""

    def __init__(self, line: Line, readers: Readers, size: int) -> None:
        self._line = line
        self._readers = readers
        self.size = size
        self.follow: Follow = lambda first, entries: None
        self.at_once = True
        self.waiting_tiles: dict[tuple[int, int], bytes] = {}  # full tiles that the next commit keeps, by level and number

    def up_to(self, end: int) -> None:
        """Hand on what lies in the log from where it was followed up to `end`."""
        while self.size < end:
            with self._readers.reading() as conn:
                entries = read_log(conn, self.size, min(_AT_ONCE, end - self.size))
            if not entries:
                raise Broken(f"the log should reach {end} and ends at {self.size}", "keep the database as evidence")
            self.follow(self.size, entries)
            self.size += len(entries)

    def group(self, first: int, entries: Sequence[bytes]) -> None:
        """Hand on a group that has just been kept, after whatever others have kept before it."""
        if self.at_once:
            self.up_to(first)
            self.size = first + len(entries)
            self.follow(first, entries)

    def keep_tiles(self) -> None:
        """Write the tiles that wait, inside the transaction at hand. Only whose transaction was durable lets go of them.

        A tile that is there already is the same: a commit that failed may have been kept all the same.
        """
        if self.waiting_tiles:
            rows = [(level, number, hashes) for (level, number), hashes in self.waiting_tiles.items()]
            self._line.raw.executemany(_INSERT_TILE, rows)

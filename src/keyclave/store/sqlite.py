"""The embedded store: SQLite in WAL mode, one writer, group commit, each commit synced before it is answered.

See `keyclave.store.embedded` for its parts.

Where several processes write to one file (`shared`), they take turns at BEGIN IMMEDIATE, and each group first meets the others
inside its own transaction: it is numbered from where the log ends now, and what others have changed since is dropped from memory
before anything is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from keyclave.core.errors import Broken
from keyclave.store import log_rows, meta_rows, versions
from keyclave.store.embedded import file, write_ahead_log
from keyclave.store.embedded.fence import Fence
from keyclave.store.embedded.file import DATABASE_FAULTS
from keyclave.store.embedded.following import Follow, Following
from keyclave.store.embedded.groups import Groups
from keyclave.store.embedded.line import Line
from keyclave.store.embedded.readers import Readers
from keyclave.store.interface import Names
from keyclave.store.places import find_place, read_log


class SqliteStore:
    """One database file, one writing connection, a few reading ones."""

    sequenced = False

    def __init__(self, path: Path, *, later: Callable[[Callable[[], None]], object] | None = None, shared: bool = False) -> None:
        """Open `path`, which must exist: only `create` makes one.

        `later` runs a function on the next turn of the event loop; without one nothing is flushed but by `flush`. `shared`
        says that other processes write to it, too.
        """
        file.must_exist(path)
        self.path = path
        self.shared = shared
        self._engine = create_engine("sqlite://", creator=lambda: file.connect(path), poolclass=NullPool, hide_parameters=True)
        try:
            self.line = Line(self._engine, path, shared=shared)
            self.readers = Readers(self._engine)
            self.node = self._own_node()
            self._fence = Fence(self.line, self.node) if shared else None
            self._following = Following(self.line, self.readers, self.line.head())
            self._groups = Groups(self.line, self._following, self._fence, later)
        except DATABASE_FAULTS as fault:
            raise file.cannot_be_opened(path, fault) from None
        self.waiting_tiles = self._following.waiting_tiles
        # called for every request: bound here, so that they cost no call of their own
        self.read, self.write = self.readers.read, self.line.write
        self.enqueue, self.flush = self._groups.enqueue, self._groups.flush

    def _own_node(self) -> str:
        node = meta_rows.read_meta(self.line.conn, "node")
        if node is None:
            raise Broken(f"the database {self.path} is not one of Keyclave", "name the home that `keyclave init` made")
        versions.check(self.line.conn)
        return node.decode()

    @property
    def failing(self) -> bool:
        """Tell whether the last commit failed: until one succeeds, nobody is answered but with an error."""
        return self.line.failing

    # ---- the log and the others -------------------------------------------------------------------------------------------
    @property
    def next_event(self) -> int:
        """The number the next event will get: the count of events kept and waiting."""
        return self._groups.next

    def placed(self) -> int:
        """Return how many events have a place in the log."""
        return self.line.head()

    def read_entries(self, first: int, count: int) -> Sequence[bytes]:
        """Return up to `count` encoded events from number `first`."""
        return self.read(lambda conn: read_log(conn, first, count))

    def followed_by(self, follow: Follow, size: int) -> None:
        """Hand what is kept on to `follow` from event `size` on: others may have kept some since this store was opened."""
        self._following.follow, self._following.size = follow, size

    def follow_when_asked(self) -> None:
        """From now on hand on only what somebody asks for (`catch_up`): another process follows the log for all."""
        self._following.at_once = False

    def catch_up(self) -> None:
        """Follow what other processes have kept. Only from the thread that flushes."""
        if self.shared and not self._groups.flushing:
            try:
                self._following.up_to(self.line.head())
            except DATABASE_FAULTS as fault:
                raise file.unavailable(fault) from fault

    def applied_by(self, apply: Callable[[Names], None]) -> None:
        """Tell `apply` what other processes have changed, before anything here rests on it."""
        if self._fence is not None:
            self._fence.apply = apply

    def meet_others(self) -> None:
        """Apply now what others have changed, not only before the next commit. Only from the thread that flushes."""
        self._groups.meet_others()

    # ---- the log's own rows -----------------------------------------------------------------------------------------------
    def find_place(self, node: str, number: int) -> int | None:
        """Return where in the log the event stands that `node` numbered so: this store's own are numbered by their place."""
        return self.read(lambda conn: find_place(conn, node, number, self.node))

    def read_tile(self, level: int, number: int) -> bytes | None:
        """Return a full tile, or None."""
        return self.read(lambda conn: log_rows.read_tile(conn, level, number))

    def keep_checkpoint(self, size: int, root: bytes, note: str, at: int) -> None:
        """Keep a signed checkpoint, together with the tiles that wait; one of that size that another process signed stays."""

        def keep(conn: Connection) -> None:
            self._following.keep_tiles()
            log_rows.keep_checkpoint(conn, size, root, note, at)

        self.write(keep)
        self.waiting_tiles.clear()

    def last_checkpoint(self, size: int | None = None) -> log_rows.Checkpoint | None:
        """Return (size, root, note) of the newest checkpoint, or of the one of that size."""
        return self.read(lambda conn: log_rows.last_checkpoint(conn, size))

    def last_signed_at(self) -> int:
        """Return the date of the newest checkpoint, in microseconds; 0 where there is none."""
        return self.read(log_rows.last_signed_at)

    def checkpoint_sizes(self, after: int, limit: int) -> list[int]:
        """Return the sizes of kept checkpoints greater than `after`."""
        return self.read(lambda conn: log_rows.checkpoint_sizes(conn, after, limit))

    def last_tile(self, level: int = 0) -> int:
        """Return how many full tiles of a level are kept."""
        return self.read(lambda conn: log_rows.last_tile(conn, level))

    # ---- upkeep -----------------------------------------------------------------------------------------------------------
    def tidy(self) -> None:
        """Copy the write-ahead log back into the database once it is long. Safe from any thread, and off the request path."""
        write_ahead_log.copy_back(self.path)

    def rewind(self) -> None:
        """Let the write-ahead log begin anew, right after `tidy`. Only from the thread that flushes."""
        write_ahead_log.begin_anew(self.path, self.line)

    def close(self) -> None:
        """Flush what waits and close every connection."""
        self.flush()
        self.readers.close()
        self.line.close()
        self._engine.dispose()

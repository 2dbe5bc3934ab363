"""The embedded store: SQLite in WAL mode with FULL sync, one writer, group commit.

Life of a group. Units wait in `_queue` for a turn of the event loop that brings nothing new (a lone request does not wait for
company, a crowd shares one sync). Then, inline on the loop's thread:

    BEGIN IMMEDIATE      die here or anywhere before COMMIT returns: nothing happened, nobody was told
    each change          inside a savepoint: a refusal undoes itself and leaves its refusal event instead
    INSERT segment       all events of the group in one row, numbered without gaps
    COMMIT               one fdatasync; die right after: kept though unanswered, which is what idempotency keys are for
    follow               the log's tree takes the leaves; start-up does the same from the same rows
    done(None)           only now do answers leave

A failed COMMIT may have reached the disk all the same. So after any failure the store reads back where the log ends before it
numbers anything again, and what it finds there is followed like at start-up.

Where several processes write to one file (`shared`), they take turns at BEGIN IMMEDIATE, and each group first meets the others
inside its own transaction: it is numbered from where the log ends now, and what others have changed since is dropped from memory
before anything is kept. A unit that rests on something changed goes back to its beginning. So no use is ever kept after a
revocation that it did not see.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from keyclave.core.errors import Broken, Conflict, KeyclaveError, Unavailable
from keyclave.store import log_rows, records, versions
from keyclave.store.changes import keep_changes, last_change, read_changes
from keyclave.store.entries import pack
from keyclave.store.interface import Names, Unit
from keyclave.store.places import find_place, read_log
from keyclave.store.syncs import OwnSync, SqliteSyncs
from keyclave.store.turns import NoTurns, Turns

T = TypeVar("T")

logger = logging.getLogger("keyclave.store")

DATABASE_FAULTS = (sqlite3.Error, DBAPIError)
GROUP = 512  # units of one commit, at most
_FOLLOWED_AT_ONCE = 4096  # entries
READERS = 4
_INSERT_SEGMENT = "INSERT INTO segments (first, count, entries) VALUES (?, ?, ?)"
_INSERT_TILE = "INSERT INTO log_tiles (level, number, hashes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_LAST_CHANGE = "SELECT n FROM change_counter"
_WAL_LONGEST = 256 << 20  # bytes: beyond it the file is cut, not only begun anew
_WAL_CHECKPOINT_PAGES = 4096  # 16 MiB: beyond it the WAL is copied back, by another connection on another thread


class SqliteStore:
    """One database file, one writing connection, a few reading ones."""

    def __init__(self, path: Path, *, later: Callable[[Callable[[], None]], object] | None = None, shared: bool = False) -> None:
        """Open `path`, which must exist: only `create` makes one.

        `later` runs a function on the next turn of the event loop; without one nothing is flushed but by `flush`. `shared`
        says that other processes write to it, too.
        """
        if not path.exists():
            raise Unavailable(f"there is no database at {path}", "run `keyclave init` first, or name another home")
        self._path = path
        self._later = later
        self.shared = shared
        self.sequenced = False
        self.follows = True  # whether what is kept is handed on at once; else only when somebody asks (`catch_up`)
        self._turns = Turns(path) if shared else NoTurns()
        self._sync = OwnSync(path) if shared else SqliteSyncs()
        self._queue: list[Unit] = []
        self._left_out: list[Unit] = []  # units to begin again once the group at hand is decided
        self._applied = 0  # the last change of another process that was applied here
        self._waiting = 0  # how many waited at the last turn
        self._scheduled = False
        self._flushing = False
        self._unsure = False  # whether a failed commit left the end of the log unknown
        self.waiting_tiles: dict[tuple[int, int], bytes] = {}  # full tiles that the next commit keeps, by level and number
        self.follow: Callable[[int, Sequence[bytes]], None] = lambda first, entries: None
        self.apply: Callable[[Names], None] = lambda names: None  # what others have changed, before anything rests on it
        try:
            self._connect_all()
        except DATABASE_FAULTS as fault:
            if "full" in str(fault):
                raise _unavailable(fault) from None
            reason = getattr(fault, "orig", None) or fault
            raise Broken(f"{path} cannot be opened: {reason}", "restore a backup; keep the file as evidence") from None

    def _connect_all(self) -> None:
        self._engine = create_engine("sqlite://", creator=lambda: connect(self._path), poolclass=NullPool, hide_parameters=True)
        self._writer = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._raw: sqlite3.Connection = self._writer.connection.driver_connection  # type: ignore[assignment]
        self._sync.begin(self._raw)
        self._readers: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._open = [self._new_reader() for _ in range(READERS)]
        for reader in self._open:
            self._readers.put(reader)
        self._next = self._followed = self._head()
        node = records.read_meta(self._writer, "node")
        if node is None:
            raise Broken(f"the database {self._path} is not one of Keyclave", "name the home that `keyclave init` made")
        self.node = node.decode()
        versions.check(self._writer)
        self._applied = last_change(self._writer)

    def _new_reader(self) -> Connection:
        conn = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        conn.exec_driver_sql("PRAGMA query_only = ON")
        return conn

    # ---- reading ----------------------------------------------------------------------------------------------------------
    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Lend a reading connection inside one snapshot."""
        conn = self._readers.get()
        try:
            conn.exec_driver_sql("BEGIN")
            try:
                yield conn
            finally:
                conn.exec_driver_sql("ROLLBACK")
        except DATABASE_FAULTS as fault:
            raise _unavailable(fault) from fault
        finally:
            self._readers.put(conn)

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on a snapshot, from any thread."""
        with self.reading() as conn:
            return fn(conn)

    def _head(self) -> int:
        row = self._raw.execute("SELECT first + count FROM segments ORDER BY first DESC LIMIT 1").fetchone()
        return 0 if row is None else int(row[0])

    def placed(self) -> int:
        """Return how many events have a place in the log."""
        return self._head()

    @property
    def next_event(self) -> int:
        """The number the next event will get: the count of events kept and waiting."""
        return self._next

    def read_entries(self, first: int, count: int) -> Sequence[bytes]:
        """Return up to `count` encoded events from number `first`."""
        with self.reading() as conn:
            return read_log(conn, first, count)

    # ---- writing ----------------------------------------------------------------------------------------------------------
    def enqueue(self, unit: Unit) -> int:
        """Take a unit into the next group; return the number of its first event."""
        first = self._next
        self._next = first + unit.events
        self._queue.append(unit)
        if self._later is not None and not self._scheduled:
            self._scheduled, self._waiting = True, 0
            self._later(self._turn)
        return first

    def _turn(self) -> None:
        self._scheduled = False
        waiting = len(self._queue)
        if self._waiting < waiting < GROUP and self._later is not None:
            self._scheduled, self._waiting = True, waiting
            self._later(self._turn)
        elif waiting:
            self.flush()

    def flush(self) -> None:
        """Commit everything that waits, in groups."""
        if self._flushing:  # a `done` that enqueues and flushes must not commit inside the group that is being answered
            return
        self._flushing = True
        try:
            while self._queue:
                group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
                self._commit(group)
        finally:
            self._flushing = False
        if self._begin_again():
            self.flush()

    def _begin_again(self) -> bool:
        left_out, self._left_out = self._left_out, []
        for unit in left_out:
            unit.again()
        return bool(left_out)

    def _commit(self, group: list[Unit]) -> None:
        entries: list[bytes] = []
        try:
            if self._unsure:
                self._look_again(group)
            self._turns.take()
            self._sync.before()
            self._raw.execute("BEGIN IMMEDIATE")
            if self.shared:
                group = self._meet_others(group)
                if not group:
                    self._raw.execute("ROLLBACK")
                    self._turns.give()
                    return
            first = self._next - sum(u.events for u in group) - sum(u.events for u in self._queue)
            for unit in group:
                entries += self._run(unit, first + len(entries))
            self._raw.execute(_INSERT_SEGMENT, (first, len(entries), pack(entries)))
            self._keep_tiles()
            change = self._tell_others(group) if self.shared else 0
            self._raw.execute("COMMIT")
            self._turns.give()
            self._sync.wait()
        except BaseException as fault:
            self._failed(group, fault)
            if not isinstance(fault, Exception):
                raise
            return
        self._applied = change or self._applied
        self.waiting_tiles.clear()
        try:
            if self.follows:
                self._follow_to(first)  # what others have kept meanwhile
                self._followed = first + len(entries)
                self.follow(first, entries)  # before anybody is answered: whoever asks for a receipt at once finds its leaf
        except KeyclaveError as fault:  # what is durable is answered all the same; the log is followed again from the rows
            logger.error("the log did not follow: %s", fault.detail)
            self._followed, self._unsure = min(self._followed, first), True
        for unit in group:
            _tell(unit, None)

    def _meet_others(self, group: list[Unit]) -> list[Unit]:
        """Inside the transaction, before it wrote anything: number from the log's end, and leave out what others made void."""
        group = self._apply_changes(group)
        self._next = self._head() + sum(u.events for u in group) + sum(u.events for u in self._queue)
        return group

    def _apply_changes(self, group: list[Unit]) -> list[Unit]:
        """Apply what others have changed; leave out whatever waits and rests on it. Return what is left of `group`."""
        if self._raw.execute(_LAST_CHANGE).fetchone()[0] == self._applied:
            return group
        n, names = read_changes(self._writer, self._applied)
        if names:
            self.apply(names)
            group = self._leave_out(group, names)
            self._queue = self._leave_out(self._queue, names)  # later groups are not asked about these again
        self._applied = n
        return group

    def _leave_out(self, units: list[Unit], names: Names) -> list[Unit]:
        asked = [(unit, unit.void(names)) for unit in units]
        self._left_out += [unit for unit, void in asked if void]
        return [unit for unit, void in asked if not void]

    def meet_others(self) -> None:
        """Apply now what others have changed, not only before the next commit. Only from the thread that flushes."""
        if not self.shared or self._flushing:
            return
        waited = sum(u.events for u in self._queue)
        try:
            self._apply_changes([])
        except DATABASE_FAULTS as fault:
            raise _unavailable(fault) from fault
        self._next -= waited - sum(u.events for u in self._queue)
        self._begin_again()

    def _tell_others(self, group: list[Unit]) -> int:
        """Keep, in the same transaction, what the group changed: the others drop it from memory before their next commit."""
        names = [name for unit in group for name in unit.touched()]
        return keep_changes(self._writer, self.node, names) if names else 0

    def _run(self, unit: Unit, first: int) -> list[bytes]:
        if not unit.changes:
            return unit.change(self._writer, first)
        self._raw.execute("SAVEPOINT unit")
        try:
            leaves = unit.change(self._writer, first)
        except DATABASE_FAULTS as fault:
            if not isinstance(fault, IntegrityError | sqlite3.IntegrityError):
                raise  # disk full, I/O error: the whole transaction is in doubt, not this unit alone
            leaves = self._undo(unit, Conflict("the change breaks a rule of the store", "read again and repeat"), first)
        except KeyclaveError as refusal:
            leaves = self._undo(unit, refusal, first)
        except Exception:
            logger.exception("a change failed")
            leaves = self._undo(unit, Broken("the change failed and was undone", "see the server's log"), first)
        self._raw.execute("RELEASE unit")
        if len(leaves) != unit.events:
            raise Broken("a unit left another number of events than it said")
        return leaves

    def _undo(self, unit: Unit, error: KeyclaveError, first: int) -> list[bytes]:
        self._raw.execute("ROLLBACK TO unit")
        return unit.refused(error, first)

    def _failed(self, group: list[Unit], fault: BaseException) -> None:
        """Undo what can be undone, and fail every unit that waits: their numbers are gone."""
        logger.error("commit failed: %s", fault, exc_info=not isinstance(fault, DATABASE_FAULTS))
        failure = (
            _unavailable(fault) if isinstance(fault, DATABASE_FAULTS) else Broken("the commit failed", "see the server's log")
        )
        lost, self._queue = group + self._queue, []
        self._unsure = True
        try:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
            self._turns.give()
            self._look_again([])
        except (*DATABASE_FAULTS, KeyclaveError) as worse:
            self._turns.give()
            logger.error("the store does not answer: %s", worse)
        for unit in lost:
            _tell(unit, failure)

    def _look_again(self, waiting: list[Unit]) -> None:
        """Read where the log really ends, follow what was kept unnoticed, and number from there. `waiting` are renumbered."""
        if self._raw.in_transaction:  # one that could not even be undone: its rows are no more than a wish
            self._raw.execute("ROLLBACK")
        head = self._head()
        self._follow_to(head)  # a commit failed, but persisted
        self._next = head + sum(u.events for u in waiting) + sum(u.events for u in self._queue)
        self._unsure = False

    def followed_by(self, follow: Callable[[int, Sequence[bytes]], None], size: int) -> None:
        """Hand what is kept on to `follow` from event `size` on: others may have kept some since this store was opened."""
        self.follow, self._followed = follow, size

    def catch_up(self) -> None:
        """Follow what other processes have kept. Only from the thread that flushes."""
        if self.shared and not self._flushing:
            try:
                self._follow_to(self._head())
            except DATABASE_FAULTS as fault:
                raise _unavailable(fault) from fault

    def _follow_to(self, end: int) -> None:
        """Hand on what lies in the log from where it was followed up to `end`."""
        while self._followed < end:
            with self.reading() as conn:
                entries = read_log(conn, self._followed, min(_FOLLOWED_AT_ONCE, end - self._followed))
            if not entries:
                raise Broken(f"the log should reach {end} and ends at {self._followed}", "keep the database as evidence")
            self.follow(self._followed, entries)
            self._followed += len(entries)

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a transaction of its own, for what leaves no event: tiles, checkpoints, the ceremony's first rows."""
        self._turns.take()
        try:
            self._sync.before()
            self._raw.execute("BEGIN IMMEDIATE")
            result = fn(self._writer)
            self._raw.execute("COMMIT")
        except BaseException as fault:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
            if isinstance(fault, DATABASE_FAULTS):
                raise _unavailable(fault) from fault
            raise
        finally:
            self._turns.give()
        try:
            self._sync.wait()
        except sqlite3.Error as fault:
            raise _unavailable(fault) from fault
        return result

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
            self._keep_tiles()
            log_rows.keep_checkpoint(conn, size, root, note, at)

        self.write(keep)
        self.waiting_tiles.clear()

    def _keep_tiles(self) -> None:
        """Write the tiles that wait, inside the transaction at hand. Only whose transaction was durable lets go of them.

        A tile that is there already is the same: a commit that failed may have been kept all the same.
        """
        if self.waiting_tiles:
            rows = [(level, number, hashes) for (level, number), hashes in self.waiting_tiles.items()]
            self._raw.executemany(_INSERT_TILE, rows)

    def last_checkpoint(self, size: int | None = None) -> log_rows.Checkpoint | None:
        """Return (size, root, note) of the newest checkpoint, or of the one of that size."""
        return self.read(lambda conn: log_rows.last_checkpoint(conn, size))

    def checkpoint_sizes(self, after: int, limit: int) -> list[int]:
        """Return the sizes of kept checkpoints greater than `after`."""
        return self.read(lambda conn: log_rows.checkpoint_sizes(conn, after, limit))

    def last_tile(self) -> int:
        """Return how many full tiles of level 0 are kept."""
        return self.read(log_rows.last_tile)

    # ---- upkeep -----------------------------------------------------------------------------------------------------------
    def tidy(self) -> None:
        """Copy the WAL back into the database once it is long. Safe from any thread, and off the request path."""
        wal = Path(f"{self._path}-wal")
        try:
            if wal.stat().st_size < _WAL_CHECKPOINT_PAGES * 4096:
                return
            with sqlite3.connect(self._path, timeout=1) as conn:
                conn.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except (OSError, sqlite3.Error) as fault:
            logger.warning("the write-ahead log could not be copied back: %s", fault)

    def rewind(self) -> None:
        """Let the write-ahead log begin anew, right after `tidy`. Only from the thread that flushes: it writes nothing meanwhile.

        Under steady load there is always a commit that `tidy` has not copied yet, so the log would never be written from its
        beginning again and would fill the disk. What is left to copy here is what came in while `tidy` ran.
        """
        try:
            size = Path(f"{self._path}-wal").stat().st_size
            if size < _WAL_CHECKPOINT_PAGES * 4096:
                return
            how = "TRUNCATE" if size > _WAL_LONGEST else "RESTART"
            self._turns.take()
            self._raw.execute("PRAGMA busy_timeout = 0")  # a reader in the way: the next time, then
            try:
                self._raw.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
            finally:
                self._raw.execute("PRAGMA busy_timeout = 10000")
                self._turns.give()
        except (OSError, sqlite3.Error) as fault:
            logger.warning("the write-ahead log could not be begun anew: %s", fault)

    def close(self) -> None:
        """Flush what waits and close every connection."""
        self.flush()
        for reader in self._open:
            reader.close()
        self._writer.close()
        self._engine.dispose()
        self._turns.close()
        self._sync.close()


def create(path: Path, node: str) -> None:
    """Make the database file (mode 0600) with the newest schema; an existing file is refused."""
    from keyclave.store import migrations

    if path.exists():
        raise Unavailable(f"{path} exists already", "name another home; an existing one is never overwritten")
    path.touch(mode=0o600)
    migrations.upgrade(lambda: connect(path))
    store = connect(path)
    with store:
        store.execute("INSERT INTO meta (name, value) VALUES ('node', ?)", (node.encode(),))
    store.close()


def is_ours(path: Path) -> bool:
    """Tell whether a file that exists is a database of Keyclave, for its owner alone. It is only read."""
    if path.stat().st_mode & 0o077:
        return False
    conn = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        found = conn.execute(
            "SELECT count(*) FROM sqlite_master WHERE name IN ('alembic_version', 'meta', 'segments')"
        ).fetchone()
    except sqlite3.Error:
        return False
    finally:
        conn.close()
    return bool(found[0] == 2)


def migrate(path: Path) -> None:
    """Bring a database file to the newest schema. The caller sees to it that nobody serves it."""
    from keyclave.store import migrations

    if not path.exists():
        raise Unavailable(f"there is no database at {path}", "run `keyclave init` first, or name another home")
    try:
        migrations.upgrade(lambda: connect(path))
    except DATABASE_FAULTS as fault:
        raise _unavailable(fault) from fault


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection with the settings that the promises rest on."""
    conn = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False, cached_statements=512)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA foreign_keys = ON")
    conn.execute("PRAGMA recursive_triggers = ON")  # else INSERT OR REPLACE deletes rows without asking the guards
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    conn.execute("PRAGMA secure_delete = ON")  # the sealed material of a destroyed version is overwritten, not only unlinked
    conn.execute("PRAGMA cache_size = -4096")
    return conn


def _tell(unit: Unit, failure: Exception | None) -> None:
    """Tell one caller; a caller whose connection is in ruins must not keep the others from their answers."""
    try:
        unit.done(failure)
    except Exception:
        logger.exception("an answer could not be given")


def _unavailable(fault: BaseException) -> Unavailable:
    if "full" in str(fault):
        return Unavailable("the disk is full: nothing was done", "free space on the server's disk and repeat the request")
    return Unavailable(
        "the database does not answer: it is not known whether this was done",
        "repeat the request with the same idempotency key; if it persists see `keyclave doctor`",
    )

"""What is answered was synced before, by whomever; a disk that fails at it is answered so, and nothing is built upon it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyclave.core.errors import Unavailable
from keyclave.store.embedded import background_sync, groups, syncs
from keyclave.store.embedded.background_sync import BackgroundSync
from keyclave.store.embedded.line import Line
from keyclave.store.sqlite import SqliteStore
from tests.store.units import Note, kept, new_store, no_gaps, remember, remembered, wired

pytestmark = [pytest.mark.file_store("the sync of SQLite's write-ahead log"), pytest.mark.requirement("P1", "R5")]

CROWD = groups._CROWD


@pytest.fixture(params=[False, True], ids=["alone", "shared"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteStore:
    made = new_store(tmp_path, shared=request.param)
    request.addfinalizer(made.close)
    return made


def crowd(store: SqliteStore, name: str, diary: list[str] | None = None) -> list[Note]:
    """Put as many units in line as are synced beside other work."""
    units = [Note(f"{name}{i}", diary=diary, drafts=True) for i in range(CROWD)]
    for unit in units:
        store.enqueue(unit)
    return units


def last(store: SqliteStore) -> str:
    return kept(store)[-1].split()[1]


def failing(_file: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# ---- the order ------------------------------------------------------------------------------------------------------------
def test_a_few_are_synced_before_anybody_is_told(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    diary: list[str] = []
    real = os.fdatasync
    monkeypatch.setattr(syncs.os, "fdatasync", lambda file: (diary.append(f"sync {last(store)}"), real(file)))
    for name in ("first", "second"):
        store.enqueue(Note(name, diary=diary))
        store.flush()
    store.write(remember("x", b"1"))
    assert diary == ["sync first", "done first", "sync second", "done second", "sync second"]


def test_a_crowd_is_synced_beside_its_log_and_its_answers_and_before_anybody_is_told(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = wired(store)
    store.followed_by(lambda first, entries: wire.diary.append(f"follow {first} {len(entries)}"), 0)
    start, wait = BackgroundSync.start, BackgroundSync.wait

    def started(sync: BackgroundSync) -> bool:
        wire.diary.append("start")
        return start(sync)

    def waited(sync: BackgroundSync) -> None:
        wait(sync)
        wire.diary.append("durable")

    monkeypatch.setattr(BackgroundSync, "start", started)
    monkeypatch.setattr(BackgroundSync, "wait", waited)
    monkeypatch.setattr(syncs.os, "fdatasync", lambda _file: wire.diary.append("again"))
    units = crowd(store, "u", wire.diary)
    store.flush()
    names = [unit.name for unit in units]
    after = wire.diary[wire.diary.index("COMMIT") + 1 :]
    assert after == ["start", f"follow 0 {CROWD}", *(f"draft {n}" for n in names), "durable", *(f"done {n}" for n in names)]


def test_fewer_than_a_crowd_do_not_pay_for_the_background(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(BackgroundSync, "start", lambda _sync: started.append("start"))
    units = [Note(f"u{i}") for i in range(CROWD - 1)]
    for unit in units:
        store.enqueue(unit)
    store.flush()
    assert not started
    assert all(unit.told == [None] for unit in units)


# ---- faults ---------------------------------------------------------------------------------------------------------------
def test_a_sync_that_fails_is_answered_so_and_nothing_is_built_on_what_it_may_have_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = new_store(tmp_path, shared=True), new_store(tmp_path, shared=True)
    other.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
    with monkeypatch.context() as broken:
        broken.setattr(syncs.os, "fdatasync", failing)
        unsure = Note("unsure")
        store.enqueue(unsure)
        store.flush()
        assert isinstance(unsure.told[0], Unavailable)
        with pytest.raises(Unavailable):
            store.write(remember("y", b"1"))
    keeps_once_nobody_reads(store, _reader_in_the_way(tmp_path), "after")
    assert [entry.split()[1] for entry in kept(other)] == ["unsure", "after"]
    assert remembered(other, "y") == b"1"
    assert no_gaps(other)
    store.close()
    other.close()


def keeps_once_nobody_reads(store: SqliteStore, reader: sqlite3.Connection, name: str) -> None:
    """The log cannot be copied back while somebody reads: what comes is refused until then, and kept afterwards."""
    refused, began = Note("refused"), time.monotonic()
    store.enqueue(refused)
    store.flush()
    assert isinstance(refused.told[0], Unavailable)
    assert time.monotonic() - began < 5  # nobody is kept waiting for whoever reads: neither the loop nor those who want the turn
    reader.execute("ROLLBACK")
    reader.close()
    after = Note(name)
    store.enqueue(after)
    store.flush()
    assert after.told == [None]


def _reader_in_the_way(folder: Path) -> sqlite3.Connection:
    """Return a connection that reads: the WAL cannot begin anew."""
    blocked = sqlite3.connect(folder / "keyclave.db", isolation_level=None)
    blocked.execute("BEGIN")
    blocked.execute("SELECT count(*) FROM meta").fetchone()
    return blocked


def test_a_crowd_whose_sync_fails_beside_it_is_told_so_and_followed_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has taken the leaves already. They are in the database; they are not taken again, and the next ones come behind."""
    seen: list[bytes] = []

    def follow(first: int, entries: list[bytes]) -> None:
        assert first == len(seen)
        seen.extend(entries)

    store.followed_by(follow, 0)
    wire = store.line._syncs._connection = wired(store)  # type: ignore[assignment]
    with monkeypatch.context() as broken:
        wait = BackgroundSync.wait

        def failed(sync: BackgroundSync) -> None:
            wait(sync)
            failing(0)

        broken.setattr(BackgroundSync, "wait", failed)
        unsure = crowd(store, "unsure")
        store.flush()
    assert all(isinstance(unit.told[0], Unavailable) and len(unit.told) == 1 for unit in unsure)
    assert store.failing
    after = crowd(store, "after")
    store.flush()
    assert all(unit.told == [None] for unit in after)
    assert not store.failing
    copied, built_on = wire.whole.index("PRAGMA wal_checkpoint(TRUNCATE)"), [n for n, w in enumerate(wire.whole) if w == "COMMIT"]
    assert built_on[0] < copied < built_on[1]
    assert [entry.split()[1].decode() for entry in seen] == [unit.name for unit in (*unsure, *after)]
    assert no_gaps(store)


def test_where_the_background_refuses_it_is_synced_all_the_same(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(BackgroundSync, "start", lambda _sync: False)
    monkeypatch.setattr(syncs.os, "fdatasync", lambda file: (synced.append(file), real(file)))
    units = crowd(store, "u")
    store.flush()
    assert len(synced) == 1
    assert all(unit.told == [None] for unit in units)


def test_where_there_is_no_background_it_is_synced_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncs, "available", lambda: False)
    synced: list[int] = []
    monkeypatch.setattr(syncs.os, "fdatasync", synced.append)
    store = new_store(tmp_path)
    for name in ("first", "second"):
        units = crowd(store, name)
        store.flush()
        assert all(unit.told == [None] for unit in units)
    assert len(synced) == 2
    store.close()


def test_an_answer_that_cannot_be_written_and_a_log_in_ruins_keep_nobody_from_the_sync(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []
    wait = BackgroundSync.wait
    monkeypatch.setattr(BackgroundSync, "wait", lambda sync: (waits.append("waited"), wait(sync)))

    class Unwritten(Note):
        def draft(self) -> None:
            raise ValueError("no such text")

    units = [Unwritten(f"u{i}") for i in range(CROWD)]
    for unit in units:
        store.enqueue(unit)
    store.flush()
    assert all(unit.told == [None] for unit in units)

    def ruined(_first: int, _entries: object) -> None:
        raise RuntimeError("no tree")

    store.followed_by(ruined, CROWD)
    lost = crowd(store, "lost")
    store.flush()
    assert waits == ["waited", "waited"]  # what is still under way must not be begun again
    assert all(len(unit.told) == 1 and unit.told[0] is not None for unit in lost)


def test_a_sync_that_nobody_waited_for_is_none(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted between its start and its end: the next commit does not pass for durable by a sync that is older than it."""
    with monkeypatch.context() as interrupted:

        def interrupt(_line: Line) -> None:
            raise KeyboardInterrupt

        interrupted.setattr(Line, "wait", interrupt)
        crowd(store, "lost")
        with pytest.raises(KeyboardInterrupt):
            store.flush()
    synced: list[str] = []
    real = os.fdatasync
    monkeypatch.setattr(syncs.os, "fdatasync", lambda file: (synced.append(last(store)), real(file)))
    after = Note("after")
    store.enqueue(after)
    store.flush()
    assert (after.told, synced) == ([None], ["after"])


def test_what_leaves_no_event_is_read_by_nobody_before_it_is_durable(tmp_path: Path) -> None:
    """A checkpoint that another process shows must not be lost with the power: SQLite itself syncs before it can be read."""
    store = new_store(tmp_path, shared=True)

    def mode() -> int:
        return int(store.line.raw.execute("PRAGMA synchronous").fetchone()[0])

    seen: list[int] = []
    store.write(lambda _conn: seen.append(mode()))
    assert (seen, mode()) == ([2], 1)

    def refused(_conn: object) -> None:
        seen.append(mode())
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write(refused)
    assert (seen, mode()) == ([2, 2], 1)
    store.close()


# ---- the start ------------------------------------------------------------------------------------------------------------
def left_behind(tmp_path: Path) -> Path:
    """Return a folder as a process leaves it that was killed."""
    store = new_store(tmp_path)
    store.enqueue(Note("kept"))
    store.flush()
    folder = tmp_path / "left"
    folder.mkdir()
    for name in ("keyclave.db", "keyclave.db-wal"):
        shutil.copy(tmp_path / name, folder / name)
    store.close()
    assert (folder / "keyclave.db-wal").stat().st_size
    return folder


def test_what_another_process_left_is_copied_back_before_anything_is_built_on_it(tmp_path: Path) -> None:
    """It may have met a failing disk, of which only those hear who had the file open."""
    folder = left_behind(tmp_path)
    store = new_store(folder)
    assert (folder / "keyclave.db-wal").stat().st_size == 0
    assert last(store) == "kept"
    store.close()


def test_who_reads_at_the_start_puts_the_first_commit_off_and_not_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs, "_PATIENCE", 1)
    folder = left_behind(tmp_path)
    reader = _reader_in_the_way(folder)
    store = new_store(folder)
    keeps_once_nobody_reads(store, reader, "after")
    assert [entry.split()[1] for entry in kept(store)] == ["kept", "after"]
    store.close()


def test_the_log_is_open_before_the_first_commit(tmp_path: Path) -> None:
    """The kernel tells of a failed write those who had the file open: whoever opens it later hears nothing."""
    idle, busy = new_store(tmp_path, shared=True), new_store(tmp_path, shared=True)
    assert os.fstat(idle.line._syncs._file).st_ino == (tmp_path / "keyclave.db-wal").stat().st_ino
    busy.enqueue(Note("a"))
    busy.flush()
    busy.tidy()
    busy.rewind()
    assert os.fstat(idle.line._syncs._file).st_ino == (tmp_path / "keyclave.db-wal").stat().st_ino
    idle.close()
    busy.close()


# ---- the library ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> int:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    request.addfinalizer(lambda: _closed(file))
    return file


def _closed(file: int) -> None:
    try:
        os.close(file)
    except OSError as fault:
        assert fault.errno == errno.EBADF


def test_a_file_is_synced_time_after_time_also_through_signals(opened: int) -> None:
    assert background_sync.available()
    sync = BackgroundSync(opened)
    main = threading.get_ident()
    interrupted: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: interrupted.append(number))
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            signal.pthread_kill(main, signal.SIGUSR1)

    other = threading.Thread(target=disturb)
    other.start()
    try:
        for number in range(200):
            os.pwrite(opened, bytes(4096), 4096 * number)
            assert sync.start()
            sync.wait()
            assert not sync.going
    finally:
        stop.set()
        other.join()
        signal.signal(signal.SIGUSR1, before)
    assert interrupted


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        pytest.param(lambda file: os.dup2(os.pipe()[1], file), errno.EINVAL, id="what cannot be synced"),
        pytest.param(os.close, errno.EBADF, id="a file that is closed"),
    ],
)
def test_what_the_disk_answers_is_raised(opened: int, spoil: Callable[[int], object], fault: int) -> None:
    sync = BackgroundSync(opened)
    spoil(opened)
    if sync.start():  # the library may look at the file by itself
        with pytest.raises(OSError) as raised:
            sync.wait()
        assert raised.value.errno == fault
    assert not sync.going


@pytest.mark.parametrize("name", [None, ""])
def test_another_library_is_not_taken_for_this_one(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setattr(background_sync.os, "confstr", lambda _name: name)
    assert not background_sync.available()

"""The write-ahead log under steady load: copied back and begun anew, so that it neither fills the disk nor loses anything."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from keyclave.store.embedded import write_ahead_log
from keyclave.store.sqlite import SqliteStore
from tests.store.units import Note, new_store, no_gaps

pytestmark = pytest.mark.file_store("the write-ahead log beside the file")

PAGES = 64  # of the log before it is copied back, in this test
ENTRY = 4000


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_ahead_log, "CHECKPOINT_PAGES", PAGES)


class Long(Note):
    def _leaves(self, outcome: str, first: int) -> list[bytes]:
        return [f"{first} {self.name} ".encode().ljust(ENTRY, b".")]


def size(store: SqliteStore) -> int:
    return Path(f"{store.path}-wal").stat().st_size


def write(store: SqliteStore, number: int) -> None:
    unit = Long(f"u{number}")
    store.enqueue(unit)
    store.flush()
    assert unit.told == [None]


def test_it_stays_short_though_there_is_always_one_more_commit(store: SqliteStore, tmp_path: Path) -> None:
    """As on the loop: `tidy` runs beside the commits, `rewind` between two of them."""
    longest = 0
    for number in range(600):
        write(store, number)
        if number % 20 == 0:
            store.tidy()
            write(store, number + 1000)  # came in while it was copied
            store.rewind()
        longest = max(longest, size(store))
    assert longest < 4 * PAGES * 4096
    assert no_gaps(store)
    again = new_store(tmp_path)
    assert again.next_event == store.next_event == 630
    again.close()


def test_a_reader_in_the_way_puts_it_off_and_is_not_disturbed(store: SqliteStore) -> None:
    for number in range(PAGES):
        write(store, number)
    with store.readers.reading() as conn:
        before = conn.exec_driver_sql("SELECT count(*) FROM segments").scalar()
        write(store, 1000)
        store.tidy()
        store.rewind()
        write(store, 1001)
        assert conn.exec_driver_sql("SELECT count(*) FROM segments").scalar() == before
    held = size(store)
    for number in range(PAGES // 2):
        store.tidy()
        store.rewind()
        write(store, 2000 + number)
    assert size(store) <= held
    assert no_gaps(store)


def test_what_is_copied_back_is_in_the_database_itself(store: SqliteStore) -> None:
    for number in range(PAGES):
        write(store, number)
    assert b" u5 ." not in store.path.read_bytes()
    store.tidy()
    store.rewind()
    assert b" u5 ." in store.path.read_bytes()


def test_copying_back_keeps_no_connection(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else memory waits for the collector, a quarter of a megabyte each time: on a server with nothing to do, for hours."""
    made: list[sqlite3.Connection] = []
    genuine = sqlite3.connect
    monkeypatch.setattr(write_ahead_log.sqlite3, "connect", lambda *where, **how: made.append(genuine(*where, **how)) or made[-1])
    for number in range(PAGES):
        write(store, number)
    store.tidy()
    (connection,) = made
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")

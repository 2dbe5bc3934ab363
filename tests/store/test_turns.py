"""Processes on one file: the turn to write goes on at once, also from a holder that dies; and what is answered was synced."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from keyclave.core.errors import Unavailable
from keyclave.store.embedded import syncs
from keyclave.store.embedded.turns import Turns
from tests.store.units import Note, kept, new_store, no_gaps, remember, remembered

pytestmark = pytest.mark.file_store("the lock by which processes take turns at one file")

HOLDER = """
import sys, time
from pathlib import Path
from keyclave.store.embedded.turns import Turns
Turns(Path(sys.argv[1])).take()
print("taken", flush=True)
time.sleep(60)
"""


@pytest.mark.requirement("R32")
def test_the_turn_of_a_process_that_is_killed_goes_to_whoever_waits(tmp_path: Path) -> None:
    turns = Turns(tmp_path / "db")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "db")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"taken\n"
    waiting = threading.Thread(target=turns.take)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    holder.kill()
    waiting.join(10)
    assert not waiting.is_alive()
    holder.wait()
    turns.give()
    turns.give()  # without having it
    turns.close()


def test_a_turn_that_is_given_is_taken_at_once(tmp_path: Path) -> None:
    one, other = Turns(tmp_path / "db"), Turns(tmp_path / "db")
    waits = []
    for _ in range(20):
        one.take()
        asked = threading.Event()

        def take(asked: threading.Event = asked) -> None:
            asked.set()
            other.take()

        thread = threading.Thread(target=take)
        thread.start()
        asked.wait()
        given = time.monotonic()
        one.give()
        thread.join(10)
        waits.append(time.monotonic() - given)
        other.give()
    assert sorted(waits)[10] < 0.05


@pytest.mark.requirement("P1", "R5")
def test_everything_is_synced_before_anybody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path, shared=True)
    diary: list[str] = []
    real = os.fdatasync
    monkeypatch.setattr(syncs.os, "fdatasync", lambda file: (diary.append(f"sync {kept(store)[-1].split()[1]}"), real(file)))
    for name in ("first", "second"):
        store.enqueue(Note(name, diary=diary))
        store.flush()
    store.write(remember("x", b"1"))
    assert diary == ["sync first", "done first", "sync second", "done second", "sync second"]
    assert store.line.raw.execute("PRAGMA synchronous").fetchone() == (1,)
    store.close()


@pytest.mark.requirement("P1", "R5")
def test_a_sync_that_fails_is_answered_so_and_nothing_is_built_on_what_it_may_have_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = new_store(tmp_path, shared=True), new_store(tmp_path, shared=True)
    other.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())

    def failing(_file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(syncs.os, "fdatasync", failing)
        unsure = Note("unsure")
        store.enqueue(unsure)
        store.flush()
        assert isinstance(unsure.told[0], Unavailable)
        with pytest.raises(Unavailable):
            store.write(remember("y", b"1"))
    blocked = sqlite3.connect(tmp_path / "keyclave.db", isolation_level=None)
    blocked.execute("BEGIN")
    blocked.execute("SELECT count(*) FROM meta").fetchone()  # a reader in the way: the WAL cannot begin anew
    store.line.raw.execute("PRAGMA busy_timeout = 1")
    refused = Note("refused")
    store.enqueue(refused)
    store.flush()
    assert isinstance(refused.told[0], Unavailable)
    blocked.execute("ROLLBACK")
    blocked.close()
    after = Note("after")
    store.enqueue(after)
    store.flush()
    assert after.told == [None]
    assert [entry.split()[1] for entry in kept(other)] == ["unsure", "after"]
    assert remembered(other, "y") == b"1"
    assert no_gaps(other)
    store.close()
    other.close()

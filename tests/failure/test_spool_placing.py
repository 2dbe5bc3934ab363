"""From the spool to the log: broken off before any statement, tried by two at once, tried again: each event is there once.

Deaths are children of this process that place a real spool in a real PostgreSQL and kill themselves with SIGKILL before the n-th step.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from keyclave.audit.event import Event, encode
from keyclave.core.errors import Broken
from keyclave.operations.nodes.sequencer import LEASE, Sequencer
from keyclave.store import nodes, places
from keyclave.store.entries import unpack
from keyclave.store.spool import placing
from keyclave.store.spool.file import Reading, Spool
from keyclave.store.spool.folder import Folder
from tests.cluster import test_rows
from tests.postgres import Database, new_database

pytestmark = pytest.mark.requirement("P1", "R5", "R32")

JOURNAL = "00112233445566aa"
NAME = f"{JOURNAL}.spool"
EVENTS = [
    encode(Event(actor="app", at=100 + i, id=f"{JOURNAL}-{i}", op="decrypt", outcome="ok", stale=1000 + i)) for i in range(7)
]


@pytest.fixture
def database() -> Iterator[Database]:
    with new_database() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "spool")
    spool = Spool(made, JOURNAL, "clinic", 1 << 20)
    for first in range(0, 7, 2):
        spool.append(EVENTS[first : first + 2])
    spool.close()
    yield made
    made.close()


def connected(database: Database) -> Connection:
    engine = create_engine("postgresql+psycopg://", creator=lambda: database.connect("keyclave_app"), poolclass=NullPool)
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def place(database: Database, folder: Folder) -> int | None:
    """Place the spool as a node does; None if somebody else does."""
    file = folder.lock(NAME)
    if file is None:
        return None
    try:
        with connected(database) as conn:
            new = placing.place(conn, "n", JOURNAL, Reading(file, NAME).records())
        folder.remove(NAME)
        return new
    finally:
        os.close(file)


def in_journal(database: Database) -> list[bytes]:
    with database.connect() as conn:
        found = conn.execute("SELECT first, count, entries FROM journal ORDER BY first")
        rows = [(int(row[0]), int(row[1]), bytes(row[2])) for row in found]
    return unpack(rows, 0, 99)


def dying_before(database: Database, folder: Folder, step: int) -> bool:
    """Place it in a child that is killed before its `step`-th statement or deletion; tell whether it got so far."""
    child = os.fork()
    if child == 0:
        steps = [0]

        def count(*_: Any) -> None:
            steps[0] += 1
            if steps[0] == step:
                os.kill(os.getpid(), signal.SIGKILL)

        execute = psycopg.Connection.execute
        remove = folder.remove
        psycopg.Connection.execute = lambda self, *a, **k: (count(), execute(self, *a, **k))[1]  # type: ignore[assignment, method-assign]
        folder.remove = lambda name: (count(), remove(name), count())[1]  # type: ignore[assignment, method-assign]
        place(database, folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_killed_before_any_step_and_tried_again_nothing_is_lost_or_there_twice(
    database: Database, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "AT_ONCE", 1)  # a transaction for each record: as many places to die at as there can be
    data = (folder.path / NAME).read_bytes()
    deaths = 0
    for step in range(1, 99):
        if not (folder.path / NAME).exists():  # it was deleted: then all of it is there
            assert in_journal(database) == EVENTS
            (folder.path / NAME).write_bytes(data)
            (folder.path / NAME).chmod(0o600)
        if not dying_before(database, folder, step):
            break
        deaths += 1
        kept = in_journal(database)
        assert kept == EVENTS[: len(kept)]
        assert (folder.path / NAME).exists() or kept == EVENTS
    assert deaths > 12
    assert in_journal(database) == EVENTS


def test_what_is_there_already_is_compared_and_left(database: Database, folder: Folder) -> None:
    data = (folder.path / NAME).read_bytes()
    assert place(database, folder) == 7
    (folder.path / NAME).write_bytes(data)  # as if it had not been deleted, or was copied to another machine
    assert place(database, folder) == 0
    assert in_journal(database) == EVENTS
    with database.connect() as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("ALTER TABLE journal DISABLE TRIGGER ALL")
        conn.execute("UPDATE journal SET entries = %s WHERE first = 2", (b"\x00\x05other",))
        conn.execute("ALTER TABLE journal ENABLE TRIGGER ALL")
    (folder.path / NAME).write_bytes(data)
    with pytest.raises(Broken, match="holds something else at 2"):
        place(database, folder)
    assert (folder.path / NAME).exists()


def test_a_sequencer_at_work_finds_a_spools_journal_at_once(database: Database, folder: Folder) -> None:
    with connected(database) as conn:
        nodes.renew(conn, test_rows._node("n"), 1_000_000)
        fence = nodes.take_lease(conn, LEASE, "n", 60_000_000)
        assert fence is not None
        sequencer = Sequencer(conn, "n", fence, 60_000_000)
        assert sequencer.look() == 0
        assert place(database, folder) == 7
        assert [row.spool for row in nodes.read_nodes(conn)] == [JOURNAL]
        assert sequencer.look() == 7
        assert sequencer.look() == 0
        assert places.read_log(conn, 0, 99) == EVENTS
        assert places.find_place(conn, JOURNAL, 3, "home") == 3

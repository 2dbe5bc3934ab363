"""A home's store is opened by one server, made new by nobody beside it, and costs what it needs."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from keyclave.app.alone import alone
from keyclave.app.config import Config, Listen, LogSettings, StoreSection
from keyclave.app.database import readers_of
from keyclave.app.stores import migrate
from keyclave.core.errors import Broken, Malformed, Unavailable
from keyclave.store.pg.connections import READERS
from tests.store.inside import new_inside, open_inside
from tests.store.units import new_store

CONFIG = Config(log=LogSettings(origin="example.org/log"))


@pytest.mark.requirement("R5")
def test_the_store_of_a_home_is_not_migrated_beside_its_server(tmp_path: Path) -> None:
    new_store(tmp_path).close()
    before = (tmp_path / "keyclave.db").read_bytes()
    with alone(tmp_path), pytest.raises(Unavailable, match="a server serves") as refused:
        migrate(tmp_path, CONFIG, None)
    assert "stop the server" in refused.value.hint
    assert (tmp_path / "keyclave.db").read_bytes() == before
    assert migrate(tmp_path, CONFIG, None) == str(tmp_path / "keyclave.db")
    alone(tmp_path).close()  # and it gave the lock back


@pytest.mark.parametrize(
    ("connections", "workers", "readers"), [(0, 4, READERS), (11, 1, 6), (16, 2, 3), (14, 2, 2), (64, 4, 11)]
)
def test_the_connections_of_a_server_are_shared_out_among_its_workers(connections: int, workers: int, readers: int) -> None:
    config = Config(log=CONFIG.log, store=StoreSection(url="x", connections=connections), listen=Listen(workers=workers))
    assert readers_of(config) == readers
    assert not connections or workers * (readers + 5) <= connections


def test_too_few_connections_for_the_workers_are_refused_with_what_they_need() -> None:
    config = Config(log=CONFIG.log, store=StoreSection(url="x", connections=20), listen=Listen(workers=3))
    with pytest.raises(Malformed, match="too few for 3 workers, which need 21") as refused:
        readers_of(config)
    assert "fewer workers" in refused.value.hint


def test_a_server_on_a_file_loads_no_driver_of_a_database_server() -> None:
    look = "import sys, keyclave.app.serve, keyclave.app.wiring; print(sorted(m for m in sys.modules if m.startswith('psycopg')))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


@pytest.mark.requirement("R34")
@pytest.mark.parametrize("name", ["root.threshold", "root.check"])
def test_what_the_database_says_of_its_root_is_refused_in_a_sentence_if_it_cannot_be_read(tmp_path: Path, name: str) -> None:
    with new_inside(tmp_path) as inside:
        home, shares, tokens = inside.home, inside.shares, inside.tokens
    with closing(sqlite3.connect(home / "keyclave.db")) as database:
        database.execute("UPDATE meta SET value = ? WHERE name = ?", (b"\xff garbage", name))
        database.commit()
    with pytest.raises(Broken, match="cannot be read") as refused, open_inside(home, shares, tokens):
        raise AssertionError("it opened")
    assert "restore a backup" in refused.value.hint

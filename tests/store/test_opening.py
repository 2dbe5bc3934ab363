"""A home's store is opened by one server, made new by nobody beside it, and costs what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keyclave.app.alone import alone
from keyclave.app.config import Config, Listen, LogSettings, StoreSection
from keyclave.app.database import readers_of
from keyclave.app.stores import migrate
from keyclave.core.errors import Malformed, Unavailable
from keyclave.store.pg.connections import READERS
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

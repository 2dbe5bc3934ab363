"""A store of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyclave.store.sqlite import SqliteStore
from tests import postgres
from tests.store.units import AnyStore, new_postgres, new_store

ENGINES = ("sqlite", "postgresql")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = new_store(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=ENGINES)
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    """A store of the test's own, once on each engine."""
    if request.param == "sqlite":
        made = new_store(tmp_path)
        yield made
        made.close()
        return
    with postgres.new_database() as database, new_postgres(database) as opened:
        yield opened

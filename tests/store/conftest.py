"""A store of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyclave.store.sqlite import SqliteStore
from tests.store.units import new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = new_store(tmp_path)
    yield made
    made.close()

"""An attempt that was answered is gone at once: nothing of it waits in memory until the collector looks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.inside import new_inside


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Keep the collector from hiding what waits for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.requirement("R5")
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("name", "ref", "body"),
    [
        ("key-create", "", {"name": "another", "owner": "ward"}),
        ("key-create", "", {"name": "ward", "owner": "refused: the name is taken"}),
        ("suspend", "ward", {"reason": "a test"}),
        ("rotate", "ward", {"reason": "a test"}),
    ],
    ids=["a key", "a refusal", "a move", "a version"],
)
def test_a_change_that_was_answered_leaves_nothing(tmp_path: Path, name: str, ref: str, body: dict[str, Any]) -> None:
    with new_inside(tmp_path) as inside:
        inside.get("key-create", "custodian", "", {"name": "ward", "owner": "ward"})
        answers = inside.begin(name, "custodian" if name == "key-create" else "operator", ref, body)
        inside.store.flush()
        left = weakref.ref(answers.pop())
        answers.clear()
        assert left() is None

"""Where several nodes write, none dates a checkpoint before what it covers, though another node's clock is ahead of its own."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from keyclave.operations.log import Log
from tests.unit.audit.logs import NOON, ORIGIN, Keys, events

SECOND = 1_000_000
EVENTS = events(700)
LAST = NOON * SECOND + 699 * 1_000


class Sequenced:
    """What the log asks of a store of several nodes; `signed_at` is the date of a checkpoint that is kept already."""

    shared = sequenced = True

    def __init__(self, signed_at: int = 0) -> None:
        self.waiting_tiles: dict[tuple[int, int], bytes] = {}
        self.kept: list[tuple[int, int]] = []  # size and date
        self._signed_at = signed_at

    def placed(self) -> int:
        return len(EVENTS)

    def last_tile(self, _level: int = 0) -> int:
        return 0

    def read_tile(self, _level: int, _number: int) -> None:
        return None

    def read_entries(self, first: int, count: int) -> Sequence[bytes]:
        return EVENTS[first : first + count]

    def last_checkpoint(self, _size: int | None = None) -> None:
        return None

    def last_signed_at(self) -> int:
        return self._signed_at

    def keep_checkpoint(self, size: int, _root: bytes, _note: str, at: int) -> None:
        self.kept.append((size, at))


def sealed_at(now: int, signed_at: int = 0) -> list[tuple[int, int]]:
    """Return what a node keeps whose clock shows `now` when it seals."""
    store: Any = Sequenced(signed_at)
    clock: Any = SimpleNamespace(now=lambda: now)
    log = Log(store, clock, ORIGIN, [])
    log.unseal(Keys())
    log.seal()
    return list(store.kept)


@pytest.mark.requirement("R40")
@pytest.mark.parametrize(
    ("now", "signed_at", "dated"),
    [
        (LAST - 300 * SECOND, 0, LAST),  # an event of a node that was ahead
        (LAST - 300 * SECOND, LAST + 5 * SECOND, LAST + 5 * SECOND),  # a checkpoint of such a node
        (LAST + 7 * SECOND, LAST + 5 * SECOND, LAST + 7 * SECOND),
    ],
)
def test_a_node_that_seals_dates_its_last_checkpoint_after_what_it_covers(now: int, signed_at: int, dated: int) -> None:
    assert sealed_at(now, signed_at) == [(len(EVENTS), dated)]

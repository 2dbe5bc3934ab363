"""What logging in needs is imported before anybody asks for it, in an installation where somebody has enrolled; elsewhere it is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live import START_SECONDS, Live
from tests.visitor import Visitor


def has_imported(live: Live, library: str) -> bool:
    """Tell whether the server has a library's machine code."""
    return f"/{library}." in Path(f"/proc/{live.process.pid}/maps").read_text()


def until_it_has_imported(live: Live, library: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not has_imported(live, library):
        assert time.monotonic() < deadline, f"{library} was not imported"
        time.sleep(0.02)  # between two looks at a condition


@pytest.mark.requirement("R30")
def test_whoever_logs_in_after_a_restart_waits_for_no_import(house: Live, somebody: Callable[..., Visitor]) -> None:
    assert not has_imported(house, "_cbor2")
    visitor = somebody()
    assert has_imported(house, "_cbor2")  # by whoever enrolled first
    house.end()
    house.restart()
    until_it_has_imported(house, "_cbor2")
    assert visitor.try_login().status_code == 200

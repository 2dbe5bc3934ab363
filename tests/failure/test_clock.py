"""The machine's clock set back: no expiry is put off, and time never runs backwards."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from drill.clock import clock_drill
from keyclave.core.clock import SystemClock

HOUR = 3600 * 1_000_000


class Hands:
    """The machine's two clocks, in microseconds, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.steady = 1_000 * HOUR, 7 * HOUR
        monkeypatch.setattr(time, "time_ns", lambda: self.wall * 1000)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.steady * 1000)

    def pass_by(self, microseconds: int) -> None:
        self.wall += microseconds
        self.steady += microseconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hands]:
    yield Hands(monkeypatch)


@pytest.mark.requirement("R33")
def test_time_goes_on_at_its_own_pace_when_the_clock_is_set_back(hands: Hands) -> None:
    clock = SystemClock()
    began = clock.now()
    hands.wall -= HOUR
    for _ in range(10):
        hands.pass_by(HOUR // 6)
        assert clock.behind() == HOUR
    assert clock.now() == began + 10 * (HOUR // 6)


def test_it_never_shows_less_than_it_showed_however_the_clock_jumps(hands: Hands) -> None:
    clock = SystemClock()
    shown = clock.now()
    for jump in (HOUR, -3 * HOUR, 1, -1, 90 * HOUR, -90 * HOUR, 0):
        hands.wall += jump
        hands.pass_by(1)
        assert clock.now() > shown
        shown = clock.now()


def test_after_a_start_it_does_not_show_less_than_what_is_known_from_before(hands: Hands) -> None:
    known = hands.wall + 2 * HOUR
    clock = SystemClock(known)
    assert clock.now() == known
    hands.pass_by(HOUR)
    assert clock.now() == known + HOUR
    hands.wall += 5 * HOUR  # the clock is right again
    assert (clock.now(), clock.behind()) == (hands.wall, 0)


@pytest.mark.requirement("R33", "R40")
def test_a_live_server_whose_clock_is_set_back_an_hour() -> None:
    result = clock_drill()
    assert result.notes == []
    assert result.ok

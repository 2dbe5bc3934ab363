"""The machine's clock set back: no expiry is put off, and time never runs backwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drill.clock import clock_drill
from keyclave.app.wiring import _latest_time
from keyclave.core.clock import SystemClock
from keyclave.store.nodes import database_time

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


SECOND = 1_000_000


def passing(hands: Hands, clock: SystemClock, seconds: int, *, agreed: bool = True, short: int = 0) -> int:
    """Let time pass, a quarter of a second at a time; return what the clock shows then. It never goes back, nor behind."""
    shown = clock.now()
    for _ in range(4 * seconds):
        if agreed:
            clock.follow_back(2.0, short)
        for part in (100_000, 149_999, 1):
            hands.pass_by(part)
            now = clock.now()
            assert shown <= now >= hands.wall
            shown = now
    return shown


@pytest.mark.requirement("R33")
def test_a_time_that_jumped_ahead_comes_back_to_two_clocks_that_agree_and_never_goes_back(hands: Hands) -> None:
    clock = SystemClock()
    hands.wall += 300 * SECOND  # five minutes wrong ...
    began = clock.now()
    hands.wall -= 300 * SECOND  # ... and right again
    assert passing(hands, clock, 160) < began + 12 * SECOND
    assert 149 * SECOND < clock.behind() < 152 * SECOND
    passing(hands, clock, 165)
    assert (clock.behind(), clock.now()) == (0, hands.wall)
    assert passing(hands, clock, 10) == hands.wall  # and at its own pace from there


@pytest.mark.requirement("R33")
def test_alone_or_once_nobody_agrees_any_more_a_time_that_is_ahead_stays_so(hands: Hands) -> None:
    clock = SystemClock(hands.wall + 300 * SECOND)
    passing(hands, clock, 60, agreed=False)
    assert clock.behind() == 300 * SECOND
    passing(hands, clock, 16)
    left = clock.behind()
    assert 284 * SECOND < left < 286 * SECOND
    hands.wall -= HOUR  # now the machine's clock is wrong: it is followed for two seconds at most
    passing(hands, clock, 60, agreed=False)
    assert HOUR + left - 2 * SECOND <= clock.behind() <= HOUR + left


def test_it_comes_back_no_further_than_the_later_of_the_two_clocks(hands: Hands) -> None:
    clock = SystemClock(hands.wall + 20 * SECOND)
    passing(hands, clock, 60, short=5 * SECOND)
    assert 5 * SECOND - 1 <= clock.behind() <= 5 * SECOND + SECOND // 10


def test_what_is_ahead_by_less_than_clocks_are_corrected_by_is_left_alone(hands: Hands) -> None:
    clock = SystemClock(hands.wall + SECOND // 20)
    assert clock.follow_back(2.0) == SECOND // 20
    hands.pass_by(SECOND)
    assert clock.behind() == SECOND // 20


class Witnessed:
    """What start-up asks of a store whose database has a clock of its own."""

    sequenced = True

    def __init__(self, latest: int, there: int) -> None:
        self._latest, self._there = latest, there

    def placed(self) -> int:
        return 0

    def read_entries(self, first: int, count: int) -> list[bytes]:
        return []

    def read(self, fn: Callable[[Any], Any]) -> Any:
        return self._there if fn is database_time else str(self._latest).encode()


@pytest.mark.requirement("R33")
def test_a_start_takes_the_time_of_two_clocks_that_agree_for_that_of_a_record_that_is_ahead(hands: Hands) -> None:
    ahead = hands.wall + 300 * SECOND

    def starts_at(there: int) -> int:
        return _latest_time(Witnessed(ahead, there), 10.0)  # type: ignore[arg-type]

    assert starts_at(hands.wall + 4 * SECOND) == hands.wall + 4 * SECOND
    assert starts_at(hands.wall - 4 * SECOND) == hands.wall
    assert starts_at(hands.wall + 11 * SECOND) == starts_at(hands.wall - 11 * SECOND) == ahead  # one of them is wrong
    assert starts_at(hands.wall + 400 * SECOND) == ahead


@pytest.mark.requirement("R33", "R40")
@pytest.mark.file_store("a node of PostgreSQL whose clock is that wrong refuses to serve: tests/cluster/test_clocks.py")
def test_a_live_server_whose_clock_is_set_back_an_hour() -> None:
    result = clock_drill()
    assert result.notes == []
    assert result.ok

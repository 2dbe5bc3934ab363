"""Slow work takes turns: nobody's holds up everybody else's, whatever there is of it and however it ends."""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from keyclave.operations.turns import THREADS, Line, Turns

WAIT_SECONDS = 20


def making(name: str) -> Line:
    return Line("t", name, False)


def reading(name: str) -> Line:
    return Line("t", name, True)


class House:
    """Turns whose threads take a step when they are told to; `done` says what was worked on, in order."""

    def __init__(self) -> None:
        self.called: deque[Callable[[], None]] = deque()
        self.turns = Turns(self.called.append)
        self.done: list[str] = []

    def work(self, name: str, portions: int = 1) -> Iterator[None]:
        for number in range(portions):
            self.done.append(name)
            if number < portions - 1:
                yield

    def go_on(self) -> None:
        """Have one thread do all there is."""
        while self.called:
            self.called.popleft()()


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.requirement("R32")
def test_everybody_has_a_turn_after_each_portion_of_everybody_else(house: House) -> None:
    for _ in range(3):
        house.turns.submit(making("greedy"), house.work("greedy", 4))
    for name in ("a", "b"):
        house.turns.submit(making(name), house.work(name, 2))
    house.go_on()
    assert house.done[:6] == ["greedy", "a", "b"] * 2
    assert house.done[6:] == ["greedy"] * 10


def test_what_one_principal_wants_goes_on_side_by_side(house: House) -> None:
    house.turns.submit(making("app"), house.work("long", 5))
    house.turns.submit(making("app"), house.work("short"))
    house.go_on()
    assert house.done == ["long", "short", *["long"] * 4]


@pytest.mark.requirement("R32")
def test_reading_waits_for_no_making_and_nobody_has_all_threads() -> None:
    """As many threads as there are, and work that does not end: who reads, and another who makes, is served all the same."""
    until, at_work, both = threading.Event(), Counter[str](), threading.Condition()

    def endless(name: str) -> Iterator[None]:
        with both:
            at_work[name] += 1
            both.notify_all()
        until.wait(WAIT_SECONDS)
        yield

    def seen(name: str) -> bool:
        with both:
            return both.wait_for(lambda: at_work[name] > 0, WAIT_SECONDS)

    with ThreadPoolExecutor(THREADS) as pool:
        turns = Turns(pool.submit)
        for _ in range(10):
            turns.submit(making("greedy"), endless("greedy"))
        turns.submit(making("other"), endless("other"))
        assert seen("other")
        turns.submit(making("third"), endless("third"))
        turns.submit(reading("reader"), endless("reader"))
        assert seen("reader")
        with both:
            assert both.wait_for(lambda: at_work["greedy"] == THREADS - 2, WAIT_SECONDS)
            assert at_work == {"greedy": THREADS - 2, "other": 1, "reader": 1}
        until.set()
        assert seen("third")


def test_work_that_fails_ends_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Iterator[None]:
        house.done.append("broken")
        yield
        raise RuntimeError("a fault of ours")

    house.turns.submit(making("a"), broken())
    house.turns.submit(making("a"), house.work("a", 2))
    house.go_on()
    assert house.done == ["broken", "a", "a"]
    assert "a fault of ours" in caplog.text
    house.turns.submit(making("a"), house.work("later"))
    house.go_on()
    assert house.done[-1] == "later"


@pytest.mark.requirement("R32")
def test_closed_it_ends_after_the_portion_at_hand(house: House) -> None:
    """A server that ends does not wait for a thousand keys that nobody will get."""

    def closing() -> Iterator[None]:
        house.done.append("closing")
        house.turns.close()
        yield
        house.done.append("never")

    house.turns.submit(making("a"), closing())
    house.turns.submit(making("b"), house.work("b", 1000))
    house.go_on()
    house.turns.submit(making("c"), house.work("c"))
    house.go_on()
    assert house.done == ["closing"]


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_doubled_or_done_by_two_threads_at_once(seed: int) -> None:
    fate, done, lock, left = random.Random(seed), Counter[int](), threading.Lock(), threading.Semaphore(0)
    works = 200

    def work(number: int, portions: int) -> Iterator[None]:
        for _ in range(portions):
            with lock:
                done[number] += 1
            yield
        left.release()

    wanted = {number: fate.randint(1, 5) for number in range(works)}
    with ThreadPoolExecutor(THREADS) as pool:
        turns = Turns(pool.submit)
        for number, portions in wanted.items():
            turns.submit(Line("t", f"p{fate.randint(0, 6)}", fate.random() < 0.3), work(number, portions))
        for _ in range(works):
            assert left.acquire(timeout=WAIT_SECONDS)
    assert done == wanted
    assert (turns._waiting, turns._busy, turns._running) == ({}, {}, 0)


def test_work_that_is_done_at_once_is_done_when_it_is_handed_over() -> None:
    done: list[str] = []

    def work(name: str, then: Callable[[], None] = lambda: None) -> Iterator[None]:
        for _ in range(3):
            done.append(name)
            yield
        then()

    turns = Turns(lambda run: run())
    turns.submit(making("a"), work("a", lambda: turns.submit(making("a"), work("again"))))
    assert done == ["a"] * 3 + ["again"] * 3

"""Rates and quotas: what is promised to be admitted is, nothing beyond is, and nothing is forgotten that counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import LimitReached
from keyclave.operations.limits import Meter, Meters, release
from keyclave.policy.rules import Rate

NOW = 1_700_000_000 * MICROSECONDS


def attempt(at: int = NOW, size: int = 1, principal: str = "app", tenant: str = "t") -> Any:
    caller = SimpleNamespace(tenant=tenant, principal=principal, meter=None)
    return SimpleNamespace(caller=caller, at=at, size=size, meter=None, meters=())


@pytest.mark.requirement("R29")
@given(
    st.floats(0.1, 1e6),
    st.integers(1, 1000),
    st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(1, 20)), min_size=1, max_size=200),
)
def test_over_any_time_no_more_than_burst_and_rate_is_admitted(rate: float, burst: int, asked: list[tuple[int, int]]) -> None:
    meter, now, taken = Meter(Rate(per_second=rate, burst=burst)), NOW, []
    for pause, number in asked:
        now += pause
        wait = meter.take(number, now)
        if not wait:
            taken.append((now, number))
        else:
            assert number <= burst or wait > 0
        if wait and number <= burst:
            assert meter.take(number, now + wait // 1000 + 1) == 0  # it is there when it was said to be
            taken.append((now + wait // 1000 + 1, number))
            now += wait // 1000 + 1
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            seconds = (taken[last][0] - taken[first][0]) / MICROSECONDS
            assert sum(number for _, number in taken[first : last + 1]) <= burst + rate * seconds + 1e-3 * burst + 2


@pytest.mark.requirement("R29")
def test_each_principal_key_and_tenant_has_its_own() -> None:
    meters, one = Meters(), Rate(per_second=1, burst=1)
    meters.admit_caller(attempt(principal="a"), one)
    meters.admit_caller(attempt(principal="b"), one)
    meters.admit_caller(attempt(principal="a", tenant="u"), one)
    with pytest.raises(LimitReached):
        meters.admit_caller(attempt(principal="a"), one)
    meters.admit_caller(attempt(at=NOW + MICROSECONDS, principal="a"), one)
    for key in ("k", "l"):
        meters.admit_key(attempt(), one, key)
    with pytest.raises(LimitReached, match="key"):
        meters.admit_key(attempt(), one, "k")
    meters.admit_tenant(attempt(), one)
    with pytest.raises(LimitReached, match="tenant"):
        meters.admit_tenant(attempt(), one)
    meters.admit_tenant(attempt(tenant="u"), one)


@pytest.mark.requirement("R29")
def test_a_batch_counts_its_items_and_one_that_never_fits_is_told_so() -> None:
    meters, rate = Meters(), Rate(per_second=10, burst=20)
    meters.admit_caller(attempt(size=15), rate)
    with pytest.raises(LimitReached) as refusal:
        meters.admit_caller(attempt(size=15), rate)
    assert refusal.value.wait == pytest.approx(1.0)
    with pytest.raises(LimitReached, match="batch"):
        meters.admit_caller(attempt(size=21), rate)
    meters.admit_caller(attempt(size=5), rate)  # what was refused took nothing


@pytest.mark.requirement("R29")
@given(st.lists(st.booleans(), max_size=200), st.integers(1, 5))
def test_unanswered_requests_are_counted_and_let_go(steps: list[bool], most: int) -> None:
    meters, rate = Meters(), Rate(concurrent=most)
    open_: list[Any] = []
    for begins in steps:
        if begins:
            one = attempt()
            if len(open_) < most:
                meters.admit_caller(one, rate)
                open_.append(one)
            else:
                with pytest.raises(LimitReached):
                    meters.admit_caller(one, rate)
        elif open_:
            release(open_.pop(0))
    for one in open_:
        release(one)
        release(one)  # twice is once
    for _ in range(most):
        meters.admit_caller(attempt(), rate)


@pytest.mark.requirement("R29")
def test_memory_is_bounded_by_who_is_within_their_limits() -> None:
    meters, rate = Meters(capacity=10), Rate(per_second=1000, burst=1)
    for number in range(1000):
        meters.admit_caller(attempt(at=NOW + number * MICROSECONDS, principal=f"p{number}"), rate)
    assert len(meters._principals) <= 11
    held = attempt(principal="busy")
    meters.admit_caller(held, Rate(concurrent=1))
    for number in range(1000):
        meters.admit_caller(attempt(at=NOW + (2000 + number) * MICROSECONDS, principal=f"q{number}"), rate)
    with pytest.raises(LimitReached):
        meters.admit_caller(attempt(principal="busy"), Rate(concurrent=1))


@pytest.mark.requirement("R29")
def test_another_rate_holds_from_the_next_request() -> None:
    meters, slow, fast = Meters(), Rate(per_second=1, burst=1), Rate(per_second=100, burst=100)
    meters.admit_caller(attempt(), slow)
    with pytest.raises(LimitReached):
        meters.admit_caller(attempt(), slow)
    for _ in range(50):
        meters.admit_caller(attempt(at=NOW + MICROSECONDS), fast)
    with pytest.raises(LimitReached):
        meters.admit_caller(attempt(at=NOW + MICROSECONDS), slow)


# ---- of several nodes ------------------------------------------------------------------------------------------------------------
def nodes(number: int) -> list[Meters]:
    made = [Meters() for _ in range(number)]
    for meters in made:
        meters.live_nodes = lambda: number
    return made


def admitted(meters: Meters, rate: Rate, at: int, size: int = 1) -> bool:
    try:
        meters.admit_tenant(attempt(at=at, size=size), rate)
    except LimitReached:
        return False
    return True


@pytest.mark.requirement("R29")
@given(st.integers(1, 8), st.integers(8, 200), st.integers(64, 400))
def test_all_nodes_together_admit_what_one_would(number: int, rate: int, burst: int) -> None:
    limit, made, seconds = Rate(per_second=rate, burst=burst), nodes(number), 3
    taken = sum(
        admitted(meters, limit, NOW + ms * 1000) for ms in range(0, 1000 * seconds, 4) for meters in made for _ in range(2)
    )
    asked = 2 * number * 250 * seconds
    assert taken >= min(asked, burst + rate * (seconds - 0.004) - 2 * number)  # of each node, what is not yet a whole use


@pytest.mark.requirement("R29")
def test_a_batch_of_the_whole_burst_is_admitted_by_one_node_and_owed() -> None:
    rate, (one, other, third) = Rate(per_second=30, burst=30), nodes(3)
    assert admitted(one, rate, NOW, 30)  # three times its share
    assert not admitted(one, rate, NOW + 2 * MICROSECONDS)
    assert not admitted(other, rate, NOW, 31)
    assert admitted(third, rate, NOW)
    assert not admitted(third, rate, NOW, 30)  # not beside anything else
    assert admitted(third, rate, NOW + MICROSECONDS // 10, 30)
    assert admitted(one, rate, NOW + 3 * MICROSECONDS)  # 30 uses at a third of 30 a second


@pytest.mark.requirement("R29")
def test_a_quota_is_shared_and_never_nothing() -> None:
    for most, number, share in ((9, 3, 3), (10, 3, 3), (1, 3, 1), (1024, 3, 341)):
        meters = nodes(number)[0]
        for _ in range(share):
            meters.admit_caller(attempt(), Rate(concurrent=most))
        with pytest.raises(LimitReached):
            meters.admit_caller(attempt(), Rate(concurrent=most))


@pytest.mark.requirement("R29")
def test_shares_follow_the_nodes_that_live() -> None:
    meters, live, rate = Meters(), 2, Rate(per_second=10, burst=10)
    meters.live_nodes = lambda: live
    taken = attempt()
    assert sum(admitted(meters, rate, NOW) for _ in range(10)) == 5
    live = 1  # the other one died: its share is this one's
    assert sum(admitted(meters, rate, NOW) for _ in range(10)) == 0  # what was taken at half the pace is owed
    assert sum(admitted(meters, rate, NOW + MICROSECONDS) for _ in range(20)) == 10
    assert taken.meters == ()

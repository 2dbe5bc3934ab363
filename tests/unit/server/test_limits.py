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

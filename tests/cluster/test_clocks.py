"""A node whose clock is wrong refuses to serve, and says by how much; one that is right again serves again."""

from __future__ import annotations

import time

import pytest

from keyclave.app.cluster_threads.clocks import Clocks
from keyclave.operations.nodes.lease import Lease
from keyclave.operations.nodes.membership import Membership

SECOND = 1_000_000


@pytest.fixture
def membership() -> Membership:
    return Membership("n" * 16, Lease(1.0), lambda _release, _reach: None)


@pytest.fixture
def clocks(membership: Membership) -> Clocks:
    return Clocks(membership, 10.0)


def _compare(clocks: Clocks, membership: Membership, ahead: float, took: float = 0.01) -> str:
    now = time.time_ns() // 1000
    clocks.compare(now - int(ahead * SECOND), now, took)
    return membership.fault


@pytest.mark.parametrize(("ahead", "way"), [(300, "300 s before"), (-300, "300 s behind")])
def test_far_off_it_refuses_and_comes_back(clocks: Clocks, membership: Membership, ahead: float, way: str) -> None:
    assert _compare(clocks, membership, ahead) == ""  # once may be an answer that was late
    assert way in _compare(clocks, membership, ahead)
    assert way in _compare(clocks, membership, ahead)
    assert _compare(clocks, membership, 0) == ""


def test_near_enough_it_serves(clocks: Clocks, membership: Membership) -> None:
    for ahead in (9.0, -9.0, 0.5, 9.0):
        assert _compare(clocks, membership, ahead) == ""


def test_an_answer_that_took_long_says_nothing_of_the_clock(clocks: Clocks, membership: Membership) -> None:
    for _ in range(3):
        assert _compare(clocks, membership, 300, took=1.5) == ""

"""A node whose clock is wrong refuses to serve, and says by how much; one that is right again serves again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from keyclave.app.cluster import Cluster, Settings
from keyclave.store.pg.address import read_address
from tests.postgres import Database

SECOND = 1_000_000


@pytest.fixture
def cluster(database: Database) -> Iterator[Cluster]:
    made = Cluster(read_address(database.url(), development=True), "n" * 16, Settings("here:1", 1.0, 10.0, 1.0))
    yield made
    made.leave()


def _compare(cluster: Cluster, ahead: float, took: float = 0.01) -> str:
    now = time.time_ns() // 1000
    cluster._compare_clocks(now - int(ahead * SECOND), now, took)
    return cluster.membership.fault


@pytest.mark.parametrize(("ahead", "way"), [(300, "300 s before"), (-300, "300 s behind")])
def test_far_off_it_refuses_and_comes_back(cluster: Cluster, ahead: float, way: str) -> None:
    assert _compare(cluster, ahead) == ""  # once may be an answer that was late
    assert way in _compare(cluster, ahead)
    assert way in _compare(cluster, ahead)
    assert _compare(cluster, 0) == ""


def test_near_enough_it_serves(cluster: Cluster) -> None:
    for ahead in (9.0, -9.0, 0.5, 9.0):
        assert _compare(cluster, ahead) == ""


def test_an_answer_that_took_long_says_nothing_of_the_clock(cluster: Cluster) -> None:
    for _ in range(3):
        assert _compare(cluster, 300, took=1.5) == ""

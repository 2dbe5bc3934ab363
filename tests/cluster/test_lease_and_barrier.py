"""Leases and the barrier, whatever the clocks, the network and the scheduler do: no use after `revoke` has returned."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyclave.operations.nodes.barrier import Barrier, Standing, Wait
from keyclave.operations.nodes.follower import EVERYTHING, Follower
from keyclave.operations.nodes.lease import PATIENCE, Lease
from tests.cluster.world import LEASE, World, live


@pytest.mark.requirement("P4", "R22")
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_no_use_after_revoke_has_returned(seed: int) -> None:
    world = live(Random(seed), seconds=30)
    assert world.broken == []
    assert world.uses > 100
    assert len(world.returned_at) > 20


def test_a_node_that_was_passed_by_while_it_renewed_does_not_trust_that_renewal() -> None:
    """It asks, is passed by as dead, and only then its renewal arrives: its row looks live, its knowledge is old."""
    world = World([1.0, 1.0, 1.0])
    writer, slow, gone = world.nodes
    for _ in range(12):
        slow.step()
    assert slow.lease.live
    writer.look()
    world.now += 5
    writer.look()
    slow.step()  # asks: nothing new
    writer.revoke("key")
    writer.look()
    assert world.returned_at == {"key": world.now}  # the slow one has been silent for long enough
    for _ in range(3):
        slow.step()  # applies, renews
    slow.begin_use("key")
    slow.answer()
    assert world.broken == []
    for _ in range(4):
        slow.step()
    assert slow.lease.live
    assert slow.void == {"key"}
    assert not gone.lease.live


def test_a_healthy_node_is_waited_for_and_a_silent_one_only_so_long() -> None:
    barrier, told = Barrier("me", LEASE), []
    barrier.saw([Standing("me", 0, 1, left=False), Standing("other", 4, 1, left=False)], 10.0)
    barrier.waiting.append(Wait(10.0, lambda: told.append("told")))
    barrier.number(5)
    assert barrier.behind(5, 10.0) == ["other"]
    assert barrier.over(10.1, read=True) == []
    barrier.saw([Standing("other", 5, 2, left=False)], 10.2)
    assert len(barrier.over(10.2, read=True)) == 1
    barrier.waiting.append(Wait(11.0, lambda: told.append("told")))
    barrier.number(6)
    assert barrier.over(11.0 + PATIENCE * LEASE - 0.01, read=False) == []
    assert len(barrier.over(11.0 + PATIENCE * LEASE, read=False)) == 1
    barrier.saw([Standing("other", 5, 3, left=True)], 12.0)
    assert barrier.behind(6, 12.0) == []


def test_nobody_is_released_before_a_number_was_read_after_the_commit() -> None:
    barrier = Barrier("me", LEASE)
    barrier.saw([], 1.0)
    barrier.waiting.append(Wait(1.0, lambda: None))
    assert barrier.over(1.0, read=True) == []
    barrier.number(1)
    assert len(barrier.over(1.0, read=True)) == 1


def test_a_lease_counts_from_before_the_question_and_ends_by_itself() -> None:
    now = [50.0]
    lease = Lease(1.0, lambda: now[0])
    assert not lease.live
    assert not lease.renewed(49.9)  # that was an announcement
    now[0] = 50.2
    assert lease.renewed(50.1)
    now[0] = 51.05
    assert lease.live
    now[0] = 51.1
    assert not lease.live
    assert not lease.renewed(51.1)  # too late: the row was dead in between
    lease.give_back()
    assert not lease.live


def test_a_gap_in_the_changes_voids_everything() -> None:
    follower = Follower(3, LEASE)
    assert follower.read(1.0, 5, [(4, [("t", "a")]), (5, [("t", "b")])]).names == [("t", "a"), ("t", "b")]
    assert follower.read(1.0, 5, [(5, [("t", "b")])]).names == [EVERYTHING]
    assert follower.read(1.0, 2, []).names == [EVERYTHING]  # a database from before: restored
    assert follower.read(1.0, 3, []).names == []


def test_a_row_is_renewed_for_news_at_once_and_else_now_and_then() -> None:
    follower = Follower(0, LEASE)
    first = follower.read(10.0, 0, [])
    assert follower.must_renew(first)
    follower.was_renewed(first)
    assert not follower.must_renew(follower.read(10.1, 0, []))
    news = follower.read(10.1, 1, [(1, [("t", "a")])])
    assert follower.must_renew(news)
    follower.was_applied(news)
    follower.was_renewed(news)
    assert follower.must_renew(follower.read(10.1 + LEASE / 4, 1, []))

"""Leases and the barrier, whatever the clocks, the network and the scheduler do: no use after `revoke` has returned."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyclave.operations.nodes.barrier import Barrier, Standing, Wait
from keyclave.operations.nodes.follower import EVERYTHING, Follower
from keyclave.operations.nodes.lease import PATIENCE, Lease
from tests.cluster.world import LEASE, Node, World, live


@pytest.mark.requirement("P4", "R22")
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_no_use_after_revoke_has_returned(seed: int) -> None:
    world = live(Random(seed), seconds=30)
    assert world.broken == []
    assert world.uses > 100
    assert len(world.returned_at) > 20


def test_the_worlds_are_ones_in_which_it_matters() -> None:
    worlds = [live(Random(seed), seconds=30) for seed in range(12)]
    assert sum(world.stale_uses for world in worlds) > 50


def look(node: Node) -> None:
    """Look at the others' rows; the answer comes at once."""
    node.look()
    node.look()


def test_a_row_that_moves_while_the_look_is_on_its_way_is_not_taken_for_silent() -> None:
    world = World([1.0, 1.0])
    writer, other = world.nodes
    for _ in range(12):
        other.step()
    look(writer)
    world.now += 0.9
    other.step()  # asks: nothing new
    writer.revoke("key")
    writer.look()  # reads the row, which has not moved for 0.9 s
    for _ in range(3):
        other.step()  # and is renewed, before the lease is over
    assert other.lease.live
    world.now += 0.4
    writer.look()  # the answer to the look: 1.3 s since the row was first seen so
    assert world.returned_at == {}
    other.begin_use("key")
    other.answer()
    assert world.broken == []
    assert world.uses == 1
    world.now += 0.9
    writer.tell()
    other.begin_use("key")
    other.answer()
    assert world.returned_at == {"key": world.now}
    assert world.broken == []


def test_a_node_with_a_spool_is_waited_for_longer_by_changes_that_it_concerns() -> None:
    barrier = Barrier("me", LEASE)
    silent = Standing("silent", 4, 1, left=False, stale=30.0)
    barrier.saw([silent], 10.0)
    barrier.waiting += [Wait(10.0, lambda: None), Wait(10.0, lambda: None, 30.0), Wait(10.0, lambda: None, 40.0)]
    barrier.number(5)
    short, long, longer = barrier.waiting
    assert barrier.over(10.0 + PATIENCE * LEASE - 0.01, read=True) == []
    assert barrier.over(10.0 + PATIENCE * LEASE, read=True) == [short]
    assert barrier.over(10.0 + PATIENCE * 31 - 0.01, read=True) == []
    assert barrier.over(10.0 + PATIENCE * 31, read=False) == [long]  # even if nobody can read the rows
    assert barrier.over(10.0 + PATIENCE * 31, read=True) == [longer]  # the row says how long it may take
    assert barrier.over(99.0, read=True) == []


def test_a_row_with_stale_use_that_stands_still_is_given_up_when_its_node_can_do_nothing_any_more() -> None:
    barrier = Barrier("me", LEASE)
    rows = [
        Standing("me", 4, 1, left=False, stale=30.0),
        Standing("plain", 4, 1, left=False),
        Standing("short", 4, 1, left=False, stale=30.0),
        Standing("long", 4, 1, left=False, stale=300.0),
        Standing("gone", 4, 1, left=True, stale=30.0),
    ]
    barrier.saw(rows, 10.0)
    assert barrier.forsaken(10.0 + 59.9) == []
    assert [row.node for row in barrier.forsaken(10.0 + 60)] == ["short"]
    assert [row.node for row in barrier.forsaken(10.0 + PATIENCE * 301)] == ["short", "long"]
    barrier.saw([row._replace(seen_at=2) for row in rows], 60.0)
    assert barrier.forsaken(100.0) == []


def test_a_node_that_was_passed_by_while_it_renewed_does_not_trust_that_renewal() -> None:
    """It asks, is passed by as dead, and only then its renewal arrives: its row looks live, its knowledge is old."""
    world = World([1.0, 1.0, 1.0])
    writer, slow, gone = world.nodes
    for _ in range(12):
        slow.step()
    assert slow.lease.live
    look(writer)
    world.now += 5
    look(writer)
    slow.step()  # asks: nothing new
    writer.revoke("key")
    look(writer)
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


def test_the_time_after_a_lease_counts_from_the_last_one_that_held() -> None:
    now = [50.0]
    lease = Lease(1.0, lambda: now[0])
    assert not lease.over_for_less_than(300)
    lease.renewed(50.0)
    assert not lease.over_for_less_than(300)  # that was an announcement
    lease.renewed(50.0)
    now[0] = 53.9
    assert (lease.over_for_less_than(3), lease.asked) == (True, 50.0)
    assert lease.age == pytest.approx(3.9)
    now[0] = 54.0
    assert not lease.over_for_less_than(3)
    assert not lease.renewed(54.0)  # announces, and prolongs nothing
    assert not lease.over_for_less_than(3)
    now[0] = 54.1
    assert lease.renewed(54.05)
    lease.announced(54.08)  # the row was found gone, and is written anew
    assert lease.live
    now[0] = 55.06
    assert not lease.live
    assert lease.over_for_less_than(3)
    lease.give_back()
    assert not lease.over_for_less_than(300)


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

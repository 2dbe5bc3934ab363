"""A node's place among the others, on the loop: what is refused, what is under way, what waits."""

from __future__ import annotations

import pytest

from keyclave.core.errors import Unavailable
from keyclave.operations.nodes.follower import Question
from keyclave.operations.nodes.lease import Lease
from keyclave.operations.nodes.membership import Membership


class Scene:
    def __init__(self) -> None:
        self.now = 10.0
        self.lease = Lease(1.0, lambda: self.now)
        self.member = Membership("n", self.lease, lambda release, reach: release())
        self.told: list[int] = []

    def news(self, change: int, *names: str) -> None:
        self.member.applied(Question(self.now, change, [("t", name) for name in names]), lambda: self.told.append(change))


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.requirement("P4")
def test_a_change_counts_as_applied_only_when_what_was_under_way_is_answered(scene: Scene) -> None:
    first, second = scene.member.begun(), scene.member.begun()
    scene.news(1, "key")
    after = scene.member.begun()
    assert scene.told == []
    scene.member.ended(second)
    assert scene.told == []
    scene.member.ended(first)
    assert scene.told == [1]
    scene.member.ended(after)


def test_what_is_begun_after_a_change_delays_only_the_next(scene: Scene) -> None:
    scene.news(1, "a")
    assert scene.told == [1]
    between = scene.member.begun()
    scene.news(2)  # nothing new: nothing under way rests on anything that was dropped
    assert scene.told == [1, 2]
    scene.news(3, "b")
    later = scene.member.begun()
    scene.news(4, "c")
    scene.member.ended(between)
    assert scene.told == [1, 2, 3]
    scene.member.ended(later)
    assert scene.told == [1, 2, 3, 4]


@pytest.mark.requirement("P4", "R22")
def test_without_a_lease_or_with_a_wrong_clock_nothing_is_done(scene: Scene) -> None:
    with pytest.raises(Unavailable, match="not heard from the database"):
        scene.member.check()
    scene.lease.renewed(scene.now)
    scene.lease.renewed(scene.now)
    scene.member.check()
    scene.member.fault = "this node's clock is 300 s before the database's"
    with pytest.raises(Unavailable, match="300 s before"):
        scene.member.check()
    scene.member.fault = ""
    scene.now += 1
    with pytest.raises(Unavailable):
        scene.member.check()

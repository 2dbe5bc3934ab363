"""What counts as the database being away, and what does not: a process, a machine or a loop that stood still."""

from __future__ import annotations

import pytest

from keyclave.operations.nodes.contact import ASLEEP, OVERDUE, Contact

pytestmark = pytest.mark.requirement("P4", "R32")


class Scene:
    """A process that ticks each quarter of a second while time passes, unless it stands still."""

    def __init__(self) -> None:
        self.now = 100.0
        self.contact = Contact(lambda: self.now)

    def awake(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.25)
            self.contact.tick()

    def still(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_answer_that_comes_is_contact(scene: Scene) -> None:
    for _ in range(10):
        scene.contact.asking()
        scene.awake(OVERDUE - 0.1)
        assert not scene.contact.away
        scene.contact.answered()
        scene.awake(5)
        assert not scene.contact.away


def test_a_question_without_an_answer_is_none_until_the_lease_holds_again(scene: Scene) -> None:
    scene.contact.asking()
    scene.awake(OVERDUE + 0.1)
    assert scene.contact.away
    scene.contact.answered()  # it came after all: what was missed meanwhile is not known yet
    assert scene.contact.away
    scene.contact.asking()
    scene.contact.answered()
    assert scene.contact.away
    scene.contact.held()
    assert not scene.contact.away


def test_a_refused_connection_is_none(scene: Scene) -> None:
    scene.contact.failed()  # a connection that nothing was asked over went: somebody may have ended just that one
    assert not scene.contact.away
    scene.contact.asking()
    scene.contact.failed()
    assert scene.contact.away
    scene.contact.held()
    assert not scene.contact.away


def test_who_stood_still_knows_nothing_of_the_database(scene: Scene) -> None:
    scene.contact.asking()
    scene.still(5)
    assert not scene.contact.away  # the loop wakes first
    scene.contact.failed()  # then the follower: its statement was cut off for taking too long
    assert not scene.contact.away
    scene.awake(0.25)
    scene.contact.asking()
    scene.contact.failed()  # asked anew, awake, and in vain
    assert scene.contact.away


def test_a_question_counts_from_waking_up(scene: Scene) -> None:
    scene.contact.asking()
    scene.still(5)
    scene.awake(0.25)
    assert not scene.contact.away
    scene.awake(OVERDUE)
    assert scene.contact.away
    assert ASLEEP > OVERDUE

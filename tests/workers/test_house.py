"""One house, several workers: who is told what, and who waits for whom. The members here are ends of sockets, not processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from keyclave.app import house as house_module
from keyclave.app.house import House
from keyclave.app.notes import Note, Word, pair, receive


class Member:
    """A worker's channel, as seen from both ends."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.channel, self.far = pair()
        self.ready = self.open = self.serving = False
        self.killed = 0
        self.lines: list[tuple[Word, socket.socket]] = []

    def kill(self) -> None:
        self.killed += 1

    def heard(self) -> list[Note]:
        """Return what the supervisor said since this was last asked; lines are kept in `lines`."""
        said = []
        while True:
            try:
                got = receive(self.far)
            except BlockingIOError:
                return said
            assert got is not None
            said.append(got[0])
            self.lines += [(got[0].word, line) for line in got[1]]

    def words(self) -> list[Word]:
        return [note.word for note in self.heard()]


@pytest.fixture
def three() -> Iterator[tuple[House, list[Member]]]:
    members = [Member(number) for number in range(3)]
    house = House(lambda: list(members))
    for member in members:
        house.heard(member, Note(Word.READY), [])
        assert member.words() == [Word.GO]
    yield house, members
    for member in members:
        for end in (member.channel, member.far, *(line for _, line in member.lines)):
            end.close()


def opened(house: House, members: list[Member]) -> None:
    """Let the first be unsealed and the others follow."""
    house.heard(members[0], Note(Word.OPENED, house.epoch), [])
    for member in members[1:]:
        house.heard(member, Note(Word.TAKEN, house.epoch, open=True), [])
    for member in members:
        member.heard()


@pytest.mark.requirement("R5")
def test_the_one_is_answered_when_all_are_open(three: tuple[House, list[Member]]) -> None:
    house, (one, two, other) = three
    house.heard(one, Note(Word.OPENED), [])
    assert one.words() == [Word.GIVE, Word.GIVE]
    assert two.words() == other.words() == [Word.TAKE]
    house.heard(two, Note(Word.TAKEN, open=True), [])
    assert one.words() == []
    house.heard(other, Note(Word.TAKEN, open=True), [])
    assert one.words() == [Word.ALL_OPEN]
    one.lines[0][1].send(b"key")  # a line goes from worker to worker: the supervisor kept no end of it
    assert two.lines[0][1].recv(9) == b"key"
    one.lines[0][1].close()
    assert two.lines[0][1].recv(9) == b""


@pytest.mark.requirement("R5", "P4")
def test_sealing_is_answered_when_nobody_holds_a_key(three: tuple[House, list[Member]]) -> None:
    house, members = three
    opened(house, members)
    one, two, other = members
    house.heard(two, Note(Word.CLOSE), [])
    assert [member.heard() for member in (one, other)] == [[Note(Word.CLOSE, 1)]] * 2
    assert two.heard() == [Note(Word.CLOSE, 1)]
    house.heard(two, Note(Word.CLOSED, 1), [])
    house.heard(one, Note(Word.CLOSED, 1), [])
    assert two.words() == []
    house.heard(other, Note(Word.CLOSED, 1), [])
    assert two.words() == [Word.ALL_CLOSED]
    assert not house.open
    assert not any(member.open for member in members)


@pytest.mark.requirement("R5", "P4")
def test_whoever_does_not_close_in_time_is_killed_and_then_sealing_is_answered(
    three: tuple[House, list[Member]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house_module, "CLOSE_SECONDS", 0)
    house, members = three
    opened(house, members)
    house.heard(members[0], Note(Word.CLOSE), [])
    for member in members[:2]:
        house.heard(member, Note(Word.CLOSED, 1), [])
    house.look()
    assert [member.killed for member in members] == [0, 0, 1]
    members[0].heard()
    frozen = members.pop()  # its process has ended
    house.gone(frozen)
    assert members[0].words() == [Word.ALL_CLOSED]


def test_an_answer_to_an_older_closing_is_none_to_this_one(three: tuple[House, list[Member]]) -> None:
    house, members = three
    opened(house, members)
    house.heard(members[0], Note(Word.CLOSE), [])
    house.heard(members[0], Note(Word.CLOSE), [])
    for member in members:
        house.heard(member, Note(Word.CLOSED, 1), [])
    assert Word.ALL_CLOSED not in members[0].words()
    for member in members:
        house.heard(member, Note(Word.CLOSED, 2), [])
    assert members[0].words() == [Word.ALL_CLOSED, Word.ALL_CLOSED]


def test_an_opening_that_a_closing_overtook_opens_nobody(three: tuple[House, list[Member]]) -> None:
    house, members = three
    house.heard(members[1], Note(Word.CLOSE), [])
    for member in members:
        member.heard()
    house.heard(members[0], Note(Word.OPENED, 0), [])
    assert members[0].words() == [Word.ALL_OPEN]
    assert members[1].words() == members[2].words() == []
    assert not house.open


@pytest.mark.requirement("R32")
def test_whoever_joins_an_open_house_is_opened_before_it_serves(three: tuple[House, list[Member]]) -> None:
    house, members = three
    opened(house, members)
    joining = Member(3)
    members.append(joining)
    house.heard(joining, Note(Word.READY), [])
    assert joining.words() == [Word.TAKE]
    assert members[0].words() == [Word.GIVE]
    assert not joining.serving
    house.heard(joining, Note(Word.TAKEN, open=True), [])
    assert joining.words() == [Word.GO]
    assert joining.serving


def test_whoever_joins_while_the_house_is_closed_serves_sealed(three: tuple[House, list[Member]]) -> None:
    house, members = three
    opened(house, members)
    joining = Member(3)
    members.append(joining)
    house.heard(joining, Note(Word.READY), [])
    house.heard(members[0], Note(Word.CLOSE), [])  # before it took the key
    assert joining.words() == [Word.TAKE, Word.CLOSE]
    house.heard(joining, Note(Word.TAKEN, 1, open=False), [])  # what came over the line was void
    house.heard(joining, Note(Word.CLOSED, 1), [])
    assert joining.words() == [Word.GO]
    assert joining.killed == 0


@pytest.mark.requirement("R5")
def test_whoever_opened_itself_while_the_others_are_sealed_is_sealed_before_it_serves(three: tuple[House, list[Member]]) -> None:
    house, members = three
    house.heard(members[0], Note(Word.CLOSE), [])
    for member in members:
        house.heard(member, Note(Word.CLOSED, 1), [])
    late = Member(3)
    members.append(late)
    house.heard(late, Note(Word.READY, open=True), [])
    assert late.words() == [Word.CLOSE]
    house.heard(late, Note(Word.CLOSED, 1), [])
    assert late.words() == [Word.GO]


def test_whoever_cannot_take_the_key_is_ended(three: tuple[House, list[Member]]) -> None:
    house, members = three
    house.heard(members[0], Note(Word.OPENED), [])
    house.heard(members[1], Note(Word.TAKEN, open=True), [])
    house.heard(members[2], Note(Word.TAKEN, open=False), [])
    assert members[2].killed == 1
    members[0].heard()
    house.gone(members.pop())
    assert members[0].words() == [Word.ALL_OPEN]


@pytest.mark.requirement("R5")
def test_shares_meet_at_one_worker_and_the_next_one_takes_over_from_nothing(three: tuple[House, list[Member]]) -> None:
    house, members = three
    house.heard(members[2], Note(Word.OFFER), [])
    assert members[0].words() == [Word.COLLECT]
    assert members[2].words() == [Word.OFFER]
    members[2].lines[0][1].send(b"share")
    assert members[0].lines[0][1].recv(9) == b"share"
    house.heard(members[0], Note(Word.OFFER), [])
    assert [(note.word, members[0].lines[1:]) for note in members[0].heard()] == [(Word.OFFER, [])]
    house.heard(members[0], Note(Word.PROGRESS, received=1), [])
    assert members[1].heard() == [Note(Word.PROGRESS, received=1)]
    collector = members.pop(0)
    house.gone(collector)
    assert members[0].heard() == [Note(Word.PROGRESS)]
    house.heard(members[1], Note(Word.OFFER), [])
    assert members[0].words() == [Word.COLLECT]
    members.append(collector)


@pytest.mark.requirement("R5")
def test_when_nobody_is_left_who_holds_the_key_whoever_joins_is_sealed(three: tuple[House, list[Member]]) -> None:
    house, members = three
    opened(house, members)
    gone = [members.pop() for _ in range(2)]
    for member in gone:
        house.gone(member)
    assert house.open
    last = members.pop()
    joining = Member(4)
    members.append(joining)
    house.gone(last)
    house.heard(joining, Note(Word.READY), [])
    assert joining.words() == [Word.GO]
    assert not house.open
    assert house.lost  # and whoever is started next is told so, until somebody has opened one
    joining.open = True
    house.heard(joining, Note(Word.OPENED), [])
    assert (house.open, house.lost) == (True, False)
    members += [last, *gone]


@pytest.mark.requirement("R5")
@pytest.mark.parametrize("ending", [False, True])
def test_when_all_end_at_once_the_key_is_lost_unless_they_were_told_to_end(
    three: tuple[House, list[Member]], ending: bool, caplog: pytest.LogCaptureFixture
) -> None:
    house, members = three
    opened(house, members)
    there = list(members)
    while members:  # all are dead before the first is noticed
        house.gone(members.pop(), ending=ending)
    assert not house.open
    assert house.lost is not ending
    assert ("open it with `keyclave unseal`" in caplog.text) is not ending
    members += there


@pytest.mark.requirement("R32")
def test_all_drain_or_none_and_whoever_joins_learns_of_it(three: tuple[House, list[Member]]) -> None:
    house, (one, two, other) = three
    house.heard(two, Note(Word.DRAIN, open=False), [])
    assert [note for member in (one, two, other) for note in member.heard()] == [Note(Word.DRAIN, open=False)] * 2
    other.ready = other.serving = False
    house.gone(other)
    house.heard(other, Note(Word.READY), [])
    assert Note(Word.DRAIN, open=False) in other.heard()
    house.heard(one, Note(Word.DRAIN, open=True), [])
    assert two.heard() == [Note(Word.DRAIN, open=True)]
    house.gone(other)
    house.heard(other, Note(Word.READY), [])
    assert other.words() == [Word.DRAIN, Word.GO]  # the word from before it went, then what it is told now

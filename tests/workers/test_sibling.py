"""A worker whose supervisor, sibling or store does not do its part: whoever asked is answered all the same, and with the truth."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from keyclave.app import lines, sibling
from keyclave.app.notes import Note, Word, pair, receive, send
from keyclave.app.sibling import Sibling
from keyclave.core.errors import Unavailable
from keyclave.crypto.arena import slot_from
from keyclave.operations.siblings import Taken


class Worker:
    """A worker's side, with the supervisor's end of its channel."""

    def __init__(self) -> None:
        self.channel, theirs = pair()
        self.ended = False
        self.sibling = Sibling(theirs, self._end)
        self.store = SimpleNamespace(meet_others=lambda: None)
        vault = SimpleNamespace(sealed=True, received=0)
        desk = SimpleNamespace(vault=vault, siblings=None)
        self.sibling.join(desk, self.store)  # type: ignore[arg-type]

    def _end(self) -> None:
        self.ended = True

    def heard(self) -> list[Word]:
        """Return what it said to the supervisor."""
        said = []
        while True:
            try:
                got = receive(self.channel)
            except BlockingIOError:
                return said
            assert got is not None
            said.append(got[0].word)

    def fill(self) -> None:
        """Say so much to it, in its own name, that a supervisor which does not listen hears no more."""
        while send(self.sibling._channel, Note(Word.BEAT)):
            pass


def on_a_loop(test: Callable[[Worker], Awaitable[None]]) -> None:
    """Run a test on an event loop, with a worker on it."""

    async def run() -> None:
        worker = Worker()
        await test(worker)
        worker.channel.close()
        worker.sibling._channel.close()

    asyncio.run(run())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)  # lets the loop turn


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sibling, "_LINE_SECONDS", 0.05)


@pytest.mark.requirement("P4", "R5", "R32")
@pytest.mark.parametrize("question", ["close_others", "open_others"])
@pytest.mark.parametrize("deaf", ["stopped", "full", "gone"])
def test_whoever_seals_or_unseals_while_the_supervisor_is_deaf_is_told_that_it_is_not_known(question: str, deaf: str) -> None:
    async def test(worker: Worker) -> None:
        if deaf == "full":
            worker.fill()
        elif deaf == "gone":
            worker.channel.close()
        told: list[bool] = []
        getattr(worker.sibling, question)(told.append)
        await until(lambda: told)
        assert told == [False]

    on_a_loop(test)


@pytest.mark.requirement("P4", "R5")
def test_a_late_answer_of_the_supervisor_is_none_to_the_next_question() -> None:
    async def test(worker: Worker) -> None:
        told: list[tuple[int, bool]] = []
        worker.sibling.close_others(lambda known: told.append((1, known)))
        await until(lambda: told)
        worker.sibling.close_others(lambda known: told.append((2, known)))
        send(worker.channel, Note(Word.ALL_CLOSED, 1))
        await asyncio.sleep(0.01)  # long enough to hear it, too short to give up
        assert told == [(1, False)]
        send(worker.channel, Note(Word.ALL_CLOSED, 2))
        await until(lambda: len(told) == 2)
        assert told[1] == (2, True)

    on_a_loop(test)


@pytest.mark.requirement("R5")
@pytest.mark.parametrize("deaf", ["stopped", "full"])
def test_whoever_brings_a_share_while_the_supervisor_is_deaf_is_answered_and_the_share_goes_nowhere(deaf: str) -> None:
    async def test(worker: Worker) -> None:
        taken: list[Taken] = []
        if deaf == "full":
            worker.fill()
        worker.sibling.offer("a share", taken.append)
        await until(lambda: taken)
        assert isinstance(taken[0].error, Unavailable)
        assert not taken[0].looked_at
        if deaf == "full":
            return
        ours, theirs = pair()
        send(worker.channel, Note(Word.OFFER), theirs)  # it wakes up
        theirs.close()
        await until(lambda: gone(ours))
        assert len(taken) == 1

    on_a_loop(test)


@pytest.mark.requirement("P4", "R5")
@pytest.mark.parametrize("away", [False, True])
def test_a_sealing_that_is_not_applied_yet_comes_before_the_share_that_is_collected(
    away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process applies what others have changed when it writes: applied after the share, an older sealing would let go of it."""
    done: list[str] = []

    def met() -> None:
        done.append("met")
        if away:
            raise Unavailable("the database does not answer", "repeat")

    def collect(_vault: object, _share: str) -> Taken:
        done.append("collected")
        return Taken(1)

    monkeypatch.setattr(sibling, "collect", collect)

    async def test(worker: Worker) -> None:
        worker.store.meet_others = met
        taken: list[Taken] = []
        worker.sibling.offer("a share", taken.append)
        send(worker.channel, Note(Word.OFFER))
        await until(lambda: taken)
        assert done == (["met"] if away else ["met", "collected"])
        assert (taken[0].error is not None, taken[0].looked_at) == (away, not away)

    on_a_loop(test)


def gone(line: socket.socket) -> bool:
    """Tell whether the other end was closed; a share that came would be no end."""
    try:
        assert line.recv(lines.LONGEST_SHARE) == b""
    except BlockingIOError:
        return False
    return True


@pytest.mark.requirement("R5")
def test_whoever_brought_the_last_share_is_answered_though_the_store_fails_and_no_copy_of_the_key_stays() -> None:
    async def test(worker: Worker) -> None:
        def fails() -> None:
            raise Unavailable("the database does not answer", "again")

        worker.store.meet_others = fails
        taken: list[Taken] = []
        worker.sibling.offer("the last share", taken.append)
        ours, theirs = pair()
        send(worker.channel, Note(Word.OFFER), theirs)
        await until(lambda: not worker.sibling._offers)
        lines.send_outcome(ours, Taken(2, root=slot_from(bytearray(32))), 0)
        await until(lambda: taken)
        assert isinstance(taken[0].error, Unavailable)
        assert taken[0].root is None

    on_a_loop(test)


@pytest.mark.requirement("R5")
@pytest.mark.parametrize("packet", [b"", b"x", bytes(10), (b"\x00" * 8 + b"\x00\x05abcd"), bytes(9000)])
def test_a_sibling_that_sends_anything_but_a_key_is_not_believed(packet: bytes) -> None:
    ours, theirs = pair()
    with ours, theirs:
        ours.send(packet)
        with pytest.raises(Unavailable):
            lines.receive_key(theirs)

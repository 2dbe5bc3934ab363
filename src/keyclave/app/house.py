"""One house, several workers: all sealed or all open. The supervisor's part of it, which knows who is open and never sees a key.

    unsealed   OPENED of one -> a line from it to each other -> TAKEN of each -> ALL_OPEN to the one
    sealed     CLOSE of one  -> CLOSE to everybody           -> CLOSED of each -> ALL_CLOSED to the one
    joining    READY of one  -> a line to it from one that is open -> TAKEN -> GO

Closings are numbered (`epoch`). A key that was given before a closing and arrives after it is void. Whoever does not do their
part in time is killed: then their keys are gone for certain, and whoever waits for them can be answered.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Protocol

from keyclave.app.notes import Note, Word, pair, send

logger = logging.getLogger("keyclave")

CLOSE_SECONDS = 2.0
OPEN_SECONDS = 10.0


class Member(Protocol):
    """A worker process, as the house knows it."""

    number: int
    channel: socket.socket
    ready: bool  # it could serve
    open: bool  # it holds the root's key
    serving: bool

    def kill(self) -> None:
        """End it at once."""
        ...


class _Round:
    """A question to some that is answered to one when all have done their part, or are gone."""

    def __init__(self, asker: Member, answer: Word, part: Word, waiting: list[Member], seconds: float) -> None:
        self.asker = asker
        self.answer = answer
        self.part = part
        self.waiting = waiting
        self.deadline = time.monotonic() + seconds


class House:
    """Keeps the members alike."""

    def __init__(self, members: Callable[[], list[Member]]) -> None:
        """`members` returns whoever is alive now."""
        self._members = members
        self._rounds: list[_Round] = []
        self._collector: Member | None = None
        self.epoch = 0
        self.open = False
        self.lost = False  # whether the key went with the last who held it
        self._draining = False

    def heard(self, member: Member, note: Note, lines: list[socket.socket]) -> None:
        """Take a note from a worker."""
        for line in lines:  # workers send none
            line.close()
        if note.word is Word.READY:
            self._ready(member, note)
        elif note.word is Word.OFFER:
            self._offer(member)
        elif note.word is Word.PROGRESS:
            self._tell_progress(member, note.received)
        elif note.word is Word.OPENED:
            self._opened(member, note)
        elif note.word is Word.TAKEN:
            self._taken(member, note)
        elif note.word is Word.CLOSE:
            self._close(member)
        elif note.word is Word.CLOSED and note.epoch >= self.epoch:
            self._did(member, Word.CLOSED)
        elif note.word is Word.DRAIN:
            self._draining = not note.open
            for other in self._members():
                if other is not member:
                    send(other.channel, note)

    def gone(self, member: Member, *, ending: bool = False) -> None:
        """A worker has ended: nobody waits for it, and the shares it collected are gone.

        With the last that held the root's key the key is gone: the supervisor has none, and gives none. So a crash of all ends
        as one of a single process does, and no process that outlives the others is worth breaking into.
        """
        self._rounds = [one for one in self._rounds if one.asker is not member]
        for part in (Word.TAKEN, Word.CLOSED):
            self._did(member, part)
        if self._collector is member:
            self._collector = None
            self._tell_progress(member, 0)
        if self.open and not any(one.open for one in self._members()):
            self.open = False
            if not ending:
                self.lost = True
                logger.critical("no worker is left that holds the root key: the server is sealed; open it with `keyclave unseal`")

    def look(self) -> None:
        """Kill whoever is late."""
        now = time.monotonic()
        for round_ in self._rounds:
            if now >= round_.deadline:
                for member in round_.waiting:
                    logger.error("worker %d did not say %r in time and is ended", member.number, round_.part.value)
                    member.kill()
                round_.deadline = now + CLOSE_SECONDS

    # ---- joining ----------------------------------------------------------------------------------------------------------
    def _ready(self, member: Member, note: Note) -> None:
        member.ready, member.open = True, note.open
        if self._draining:
            send(member.channel, Note(Word.DRAIN))
        giver = next((one for one in self._members() if one.open and one is not member), None)
        if note.open and not self.open and self.epoch:  # it opened by itself while the others were sealed
            self._ask_to_close([member])
            self._wait(_Round(member, Word.GO, Word.CLOSED, [member], CLOSE_SECONDS))
        elif self.open and not note.open and giver is not None:
            self._hand_over(giver, member)
            self._wait(_Round(member, Word.GO, Word.TAKEN, [member], OPEN_SECONDS))
        else:
            self.open = self.open or note.open
            self.lost = self.lost and not self.open
            self._answer(member, Word.GO)

    # ---- shares -----------------------------------------------------------------------------------------------------------
    def _offer(self, member: Member) -> None:
        """Connect whoever was given a share with the collector."""
        if self._collector is None:
            self._collector = min((one for one in self._members() if one.serving), key=lambda one: one.number, default=member)
        if self._collector is member:
            send(member.channel, Note(Word.OFFER))
            return
        ends = pair()
        send(self._collector.channel, Note(Word.COLLECT), ends[0])  # if it is gone, the other end is told so by the socket
        send(member.channel, Note(Word.OFFER), ends[1])
        for end in ends:
            end.close()

    def _tell_progress(self, member: Member, received: int) -> None:
        for other in self._members():
            if other is not member:
                send(other.channel, Note(Word.PROGRESS, received=received))

    # ---- opening ----------------------------------------------------------------------------------------------------------
    def _opened(self, member: Member, note: Note) -> None:
        if note.epoch != self.epoch:  # sealed meanwhile: its CLOSE is on the way to it
            self._answer(member, Word.ALL_OPEN)
            return
        self.open, member.open, self.lost = True, True, False
        others = [one for one in self._members() if one.ready and not one.open]
        for other in others:
            self._hand_over(member, other)
        self._wait(_Round(member, Word.ALL_OPEN, Word.TAKEN, others, OPEN_SECONDS))

    def _hand_over(self, giver: Member, taker: Member) -> None:
        ends = pair()
        send(giver.channel, Note(Word.GIVE, self.epoch), ends[0])
        send(taker.channel, Note(Word.TAKE, self.epoch), ends[1])
        for end in ends:
            end.close()

    def _taken(self, member: Member, note: Note) -> None:
        if note.epoch == self.epoch:
            member.open = note.open
            if self.open and not note.open:
                logger.error("worker %d could not take the root key and is ended", member.number)
                member.kill()
                return
        self._did(member, Word.TAKEN)

    # ---- closing ----------------------------------------------------------------------------------------------------------
    def _close(self, member: Member) -> None:
        self.epoch += 1
        self.open = self.lost = False
        there = [one for one in self._members() if one.ready]
        for one in there:
            one.open = False
        self._ask_to_close(there)
        self._wait(_Round(member, Word.ALL_CLOSED, Word.CLOSED, there, CLOSE_SECONDS))

    def _ask_to_close(self, members: list[Member]) -> None:
        for one in members:
            one.open = False
            send(one.channel, Note(Word.CLOSE, self.epoch))

    # ---- rounds -----------------------------------------------------------------------------------------------------------
    def _wait(self, round_: _Round) -> None:
        self._rounds.append(round_)
        self._settle()

    def _did(self, member: Member, part: Word) -> None:
        for round_ in self._rounds:
            if round_.part is part:
                round_.waiting = [one for one in round_.waiting if one is not member]
        self._settle()

    def _settle(self) -> None:
        over = [one for one in self._rounds if not one.waiting]
        self._rounds = [one for one in self._rounds if one.waiting]
        for round_ in over:
            self._answer(round_.asker, round_.answer)

    def _answer(self, member: Member, word: Word) -> None:
        if word is Word.GO:
            member.serving = True
        send(member.channel, Note(word, self.epoch))

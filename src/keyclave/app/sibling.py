"""A worker's side of the house: it takes the supervisor's notes on its loop, and is what operations know of the other workers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from keyclave.app import lines
from keyclave.app.notes import Note, Word, receive, send
from keyclave.app.stores import AnyStore
from keyclave.core.errors import KeyclaveError, LimitReached, Unavailable
from keyclave.operations.desk import Desk
from keyclave.operations.sealing_reasons import Why
from keyclave.operations.siblings import Taken, collect
from keyclave.operations.unseal import open_house

logger = logging.getLogger("keyclave")

BEAT_SECONDS = 0.5
_LINE_SECONDS = 15.0  # that a line stays open without a word, and that the supervisor is waited for
_OFFERS = 16  # shares on their way at once: they are whoever's who finds the port
_FAULTS = (OSError, KeyclaveError, msgspec.DecodeError)  # of a line whose other end is in ruins


class _Asked:
    """Something that waits for the supervisor's answer. It is told once; what comes after it was given up is nobody's."""

    def __init__(self, then: Callable[[bool], None]) -> None:
        self.over = False
        self._then = then

    def tell(self, known: bool) -> None:
        """Tell whether the answer came."""
        if not self.over:
            self.over = True
            self._then(known)


class Sibling:
    """One worker among others; it is `keyclave.operations.siblings.Siblings`."""

    def __init__(self, channel: socket.socket, end: Callable[[], None]) -> None:
        """`end` is called when the supervisor has gone."""
        self._channel = channel
        self._end = end
        self._epoch = 0
        self._offers: deque[tuple[_Asked, str, Callable[[Taken], None]]] = deque()
        self._asked: dict[Word, deque[_Asked]] = {Word.ALL_OPEN: deque(), Word.ALL_CLOSED: deque()}
        self.received = 0

    def join(self, desk: Desk, store: AnyStore) -> asyncio.Future[None]:
        """Take part from now on; the future is done when this worker may serve."""
        self._desk, self._store = desk, store
        self._loop = asyncio.get_running_loop()
        self._go: asyncio.Future[None] = self._loop.create_future()
        desk.siblings = self
        self._loop.add_reader(self._channel.fileno(), self._listen)
        self._say(Note(Word.READY, open=not desk.vault.sealed))
        self._beat()
        return self._go

    def _beat(self) -> None:
        send(self._channel, Note(Word.BEAT))
        self._loop.call_later(BEAT_SECONDS, self._beat)

    def _say(self, note: Note) -> None:
        if not send(self._channel, note):
            raise Unavailable("the supervisor does not listen", "restart the server")

    # ---- what operations ask ----------------------------------------------------------------------------------------------
    def offer(self, share: str, then: Callable[[Taken], None]) -> None:
        """Have a share collected."""
        if len(self._offers) >= _OFFERS:
            then(Taken(0, error=LimitReached("too many shares at once", "give it again in a moment"), looked_at=False))
            return
        asked = _Asked(lambda known: None if known else then(Taken(0, error=_deaf(), looked_at=False)))
        if self._ask(Note(Word.OFFER), asked):
            self._offers.append((asked, share, then))

    def open_others(self, then: Callable[[bool], None]) -> None:
        """Have the others opened."""
        self._ask(Note(Word.OPENED, self._epoch), _Asked(then), self._asked[Word.ALL_OPEN])

    def close_others(self, then: Callable[[bool], None]) -> None:
        """Have the others closed."""
        self._ask(Note(Word.CLOSE), _Asked(then), self._asked[Word.ALL_CLOSED])

    def drain_others(self, *, draining: bool) -> None:
        """Have the others say the same: a balancer that asks any of them asks this server."""
        send(self._channel, Note(Word.DRAIN, open=not draining))

    def _ask(self, note: Note, asked: _Asked, waiting: deque[_Asked] | None = None) -> bool:
        """Ask the supervisor, and give it up after a while: one that is stopped keeps nobody waiting for ever."""
        if not send(self._channel, note):
            asked.tell(False)
            return False
        if waiting is not None:
            waiting.append(asked)
        self._loop.call_later(_LINE_SECONDS, asked.tell, False)
        return True

    # ---- notes ------------------------------------------------------------------------------------------------------------
    def _listen(self) -> None:
        while True:
            try:
                got = receive(self._channel)
            except BlockingIOError:
                return
            if got is None:
                self._loop.remove_reader(self._channel.fileno())
                self._end()
                return
            note, ends = got
            try:
                self._heard(note, ends)
            except Exception:
                logger.exception("a note of the supervisor could not be followed")

    def _heard(self, note: Note, ends: list[socket.socket]) -> None:
        line = ends[0] if ends else None
        if line is not None:
            line.setblocking(False)
        if note.word is Word.GO:
            self._epoch = max(self._epoch, note.epoch)
            if not self._go.done():
                self._go.set_result(None)
        elif note.word is Word.PROGRESS:
            self.received = note.received
        elif note.word is Word.CLOSE:
            self._close(note.epoch)
        elif note.word is Word.OFFER:
            self._offered(line)
        elif note.word is Word.DRAIN:
            self._desk.draining = not note.open
        elif note.word in self._asked:
            self._asked[note.word].popleft().tell(True)
        elif line is not None and note.word is Word.COLLECT:
            self._when_heard(line, self._collect)
        elif line is not None and note.word is Word.GIVE:
            self._give(line)
        elif line is not None and note.word is Word.TAKE:
            self._epoch = max(self._epoch, note.epoch)
            self._when_heard(line, self._take)

    def _when_heard(self, line: socket.socket, fn: Callable[[socket.socket], None]) -> None:
        """Call `fn` once something comes over the line, its end or too long a silence included; then close it."""

        def heard() -> None:
            late.cancel()
            self._loop.remove_reader(line.fileno())
            with line:
                fn(line)

        late = self._loop.call_later(_LINE_SECONDS, line.shutdown, socket.SHUT_RDWR)  # which wakes the reader
        self._loop.add_reader(line.fileno(), heard)

    # ---- shares -----------------------------------------------------------------------------------------------------------
    def _offered(self, line: socket.socket | None) -> None:
        asked, share, then = self._offers.popleft()
        if asked.over:  # it was answered that this share went nowhere
            if line is not None:
                line.close()
            return
        asked.tell(True)
        if line is None:  # this worker collects
            self._brought(self._collected(share), then)
            return

        def outcome(line: socket.socket) -> None:
            try:
                taken = lines.receive_outcome(line)
            except _FAULTS:
                taken = Taken(0, error=lines.lost_line(), looked_at=False)
            self._brought(taken, then)

        try:
            lines.send_share(line, share)
        except OSError:
            line.close()
            then(Taken(0, error=lines.lost_line(), looked_at=False))
        else:
            self._when_heard(line, outcome)

    def _brought(self, taken: Taken, then: Callable[[Taken], None]) -> None:
        if taken.root is not None:
            try:
                self._store.meet_others()  # an older sealing, applied after the opening, would undo it
            except KeyclaveError as fault:
                taken.root.wipe()
                taken = Taken(0, error=fault)
        then(taken)

    def _collect(self, line: socket.socket) -> None:
        try:
            share = lines.receive_share(line)
            if share:
                lines.send_outcome(line, self._collected(share), self._epoch)
        except OSError:
            logger.warning("whoever brought a share has gone")

    def _collected(self, share: str) -> Taken:
        try:
            self._store.meet_others()  # an older sealing, applied after this, would let go of the share
        except KeyclaveError as fault:
            return Taken(self.received, error=fault, looked_at=False)
        taken = collect(self._desk.vault, share)
        self.received = taken.received
        send(self._channel, Note(Word.PROGRESS, received=taken.received))
        return taken

    # ---- the root's key ---------------------------------------------------------------------------------------------------
    def _give(self, line: socket.socket) -> None:
        with line:
            if not self._desk.vault.sealed:
                with self._desk.vault.give_root() as key:
                    lines.send_key(line, key, self._epoch)

    def _take(self, line: socket.socket) -> None:
        try:
            epoch, key = lines.receive_key(line)
            if epoch != self._epoch:  # given before the last closing
                key.wipe()
            elif self._desk.vault.sealed:
                self._store.meet_others()
                self._desk.vault.take_root(key)
                open_house(self._desk)
            else:  # another line was faster
                key.wipe()
            self.received = 0
        except _FAULTS as fault:
            logger.error("the root key could not be taken: %s", getattr(fault, "detail", fault))
        self._say(Note(Word.TAKEN, self._epoch, open=not self._desk.vault.sealed))

    def _close(self, epoch: int) -> None:
        self._epoch = epoch
        self._desk.let_go(Why.SEALED)
        self.received = 0
        self._say(Note(Word.CLOSED, epoch))


def _deaf() -> Unavailable:
    return Unavailable("the server's supervisor does not answer: the share went nowhere", "continue or restart the server")

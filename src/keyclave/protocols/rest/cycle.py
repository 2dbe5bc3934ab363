"""A request in the fast lane, and the head of one that may come again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from keyclave.operations.attempt import Attempt
from keyclave.protocols.rest.gateway import JSON, Head, further_headers, reply_to
from keyclave.protocols.rest.routes import Route

if TYPE_CHECKING:
    from keyclave.protocols.rest.answering import Answering


class Signal:
    """Stands where uvicorn keeps the event that wakes a task: the lane has none."""

    def set(self) -> None:
        """Wake nobody."""


class Cycle:
    """A request in the lane."""

    __slots__ = (
        "body", "disconnected", "keep_alive", "lane", "message_event", "more_body", "response_complete", "route", "too_large",
        "written",
    )  # fmt: skip

    def __init__(self, lane: Answering, route: Route, *, keep_alive: bool) -> None:
        self.lane = lane
        self.route = route
        self.keep_alive = keep_alive
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.too_large = False
        self.message_event = SIGNAL
        self.written = b""  # the answer as it is sent, for as long as it waits until it may be

    def respond(self, status: int, kind: bytes, body: bytes, more: Iterable[tuple[bytes, bytes]]) -> None:
        """Answer it."""
        self.lane.answer(self, status, kind, body, more)

    def ready(self, attempt: Attempt) -> None:
        """Its answer is written, and must not leave yet: what stands before it is put there meanwhile."""
        op = self.route[0]
        self.written = self.lane.frame(self, op.status, JSON, attempt.drafted, *further_headers(op))

    def reply(self, attempt: Attempt) -> None:
        """Answer it with what became of the attempt."""
        written, self.written = self.written, b""
        if written and attempt.error is None and self.keep_alive:  # else its head may say what is no longer so
            self.lane.send(self, written)
        else:
            reply_to(self.route[0], self.respond, attempt)


SIGNAL = Signal()


class Known:
    """A head that was read, and what was read in it. A request of the same bytes asks for the same, but for its body."""

    __slots__ = ("bytes", "length", "read", "route")

    def __init__(self, head: bytes, length: int, route: Route, read: Head) -> None:
        self.bytes = head
        self.length = length  # of the whole request: the head says how long the body is
        self.route = route
        self.read = read

"""What leaves a connection of the fast lane: answers, refusals, and its end.

Heads of answers are the same for every answer of the same second, and kept as they are written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from keyclave.core.errors import KeyclaveError, Malformed
from keyclave.protocols.rest.cycle import Cycle
from keyclave.protocols.rest.departures import Departures
from keyclave.protocols.rest.problems import CONTENT_TYPE, problem

REQUEST_SECONDS = 30  # from the first byte of a request to its last
IDLE_SECONDS = 75  # between requests
_KEPT = 64  # heads that are kept for a second
_GO_ON, _CLOSE = b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"  # behind the length
_GOODBYE_SECONDS = 0.5  # for a client to end its connection when the server ends


class Answering(HttpToolsProtocol):
    """One connection, as far as it answers."""

    begun: ClassVar[dict[tuple[int, bytes, tuple[tuple[bytes, bytes], ...]], bytes]] = {}  # up to the length, of `begun_with`
    begun_with: ClassVar[list[tuple[bytes, bytes]]] = []
    departures: ClassVar[Departures | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard = time.monotonic()  # when the current request began, or the last one ended
        self.within = False  # inside a request that is not complete
        self.refusing = False
        self.unread = 0  # bytes that the other end had left at the last sweep
        self.passed_on = False  # whether the request at hand takes the ordinary way, its answer being the current cycle's

    def answer(self, cycle: Cycle, status: int, kind: bytes, body: bytes, more: Iterable[tuple[bytes, bytes]]) -> None:
        """Answer a request of the lane."""
        self.send(cycle, self.frame(cycle, status, kind, body, *more))

    def frame(self, cycle: Cycle, status: int, kind: bytes, body: bytes, *more: tuple[bytes, bytes]) -> bytes:
        """Return an answer as it is sent."""
        end = _GO_ON if cycle.keep_alive else _CLOSE
        return b"%b%d%b%b" % (self._begin(status, kind, *more), len(body), end, body)

    def send(self, cycle: Cycle, written: bytes) -> None:
        """Send the answer to a request of the lane."""
        cycle.response_complete = True
        self.heard = time.monotonic()
        transport = self.transport
        if cycle.disconnected or transport.is_closing():
            return
        if self.departures is None:
            transport.write(written)
        elif self.pipeline or not cycle.keep_alive:
            self.write(written)
        else:
            self.departures.add(self, written)
        if not cycle.keep_alive:
            transport.close()
        elif self.pipeline:
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1

    def write(self, data: bytes) -> None:
        """Send at once, behind what waits to be sent."""
        self.let_leave()
        self.transport.write(data)

    def let_leave(self) -> None:
        """Send what waits to be sent."""
        if self.departures is not None and self.departures.waiting:
            self.departures.leave()

    def _begin(self, status: int, kind: bytes, *more: tuple[bytes, bytes]) -> bytes:
        """Return the head up to the length. It is the same for every such answer of the same second: the date is in it."""
        defaults = self.server_state.default_headers
        if defaults is not self.begun_with:
            type(self).begun_with = defaults
            self.begun.clear()
        begun = self.begun.get((status, kind, more))
        if begun is None:
            lines = [b": ".join(header) for header in (*defaults, *more)]
            lines += [b"content-type: " + kind, b"cache-control: no-store", b"content-length: "]
            begun = STATUS_LINE[status] + b"\r\n".join(lines)
            if len(self.begun) < _KEPT and all(name == b"etag" for name, _ in more):  # a cookie, say, is a secret
                self.begun[status, kind, more] = begun
        return begun

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP."""
        self.refuse(Malformed("the request is not HTTP/1.1", "speak HTTP/1.1 over TLS here"))

    def refuse(self, error: KeyclaveError) -> None:
        """Answer with an error and close: what follows on this connection cannot be trusted to be a request.

        A request that was answered before its body ended gets no second answer: it would pass for that of the next request.
        """
        if self.refusing:
            return
        self.refusing = True
        self.let_leave()
        current: Any = self.cycle
        ordinary = current is not None and current.__class__ is not Cycle
        answered = ordinary and self.passed_on and current.response_complete
        if not self.transport.is_closing():
            if not answered and (not ordinary or current.response_complete or not current.response_started):
                status, body = problem(error)
                more = [(b"www-authenticate", b'Bearer realm="keyclave"')] if status == 401 else []
                begun = self._begin(status, CONTENT_TYPE, *more)
                self.transport.write(b"%b%d%b%b" % (begun, len(body), _CLOSE, body))
            self.transport.close()
        if current is not None:  # whoever works on it finds nobody to answer
            current.disconnected = True
            current.message_event.set()

    def shutdown(self) -> None:
        """End when what is under way is answered; a client that does not say goodbye is not waited for."""
        self.let_leave()
        super().shutdown()
        self.loop.call_later(_GOODBYE_SECONDS, self._let_go)

    def _let_go(self) -> None:
        self.let_leave()
        answered = self.cycle is None or self.cycle.response_complete
        if answered and not self.transport.get_write_buffer_size():
            self.transport.abort()  # TLS would wait for the other end's word
        elif not self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.loop.call_later(_GOODBYE_SECONDS, self._let_go)

    def sweep(self, now: float, idle: float = IDLE_SECONDS) -> None:
        """Close the connection if it dawdles inside a request, has been idle for so long, or does not read what it is sent."""
        left = self.transport.get_write_buffer_size()
        moved, self.unread = left != self.unread, left
        if left and moved:  # it reads, if slowly
            self.heard = now
            return
        busy = self.cycle is not None and not self.cycle.response_complete and not self.within
        if left and now - self.heard > REQUEST_SECONDS:
            self.transport.abort()  # to close would wait for ever until it is read
        elif not busy and now - self.heard > (REQUEST_SECONDS if self.within else idle):
            self.transport.close()

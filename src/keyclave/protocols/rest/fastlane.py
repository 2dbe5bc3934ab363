"""The fast lane: uvicorn's HTTP protocol, answering POST operations itself instead of starting a task for each.

A request takes the lane when no other of its connection is being answered; a pipelined one behind it takes the ordinary way,
where uvicorn keeps the order of answers. The lane's stand-in for uvicorn's request cycle has the same few attributes, so
everything uvicorn does with a cycle (pipelining, disconnects, shutdown) works on it too. uvicorn's minor version is pinned: this
class leans on its internals.

A client that goes on asking for the same sends the same head each time, byte for byte. The last one of a connection is remembered
with what was read in it, and a request that begins with it and is as long goes on without the parser.

Hardening: heads and bodies have limits that hold before anything is buffered beyond them, and of a body no more than the first 64
KiB are kept for a caller who is not known; connections that dawdle are closed by a sweep (`sweep`), not by a timer each;
`Expect: 100-continue` is answered; whatever cannot be parsed, or can be read in two ways (`framing`), closes the connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, ClassVar

from keyclave.core import limits
from keyclave.core.errors import Broken, KeyclaveError, LimitReached, Malformed, TooLarge
from keyclave.identity.peer import Peer, Plane
from keyclave.identity.proxies import ProxyRule, asked_for
from keyclave.protocols.rest.answering import Answering
from keyclave.protocols.rest.arrivals import Arrivals
from keyclave.protocols.rest.cycle import Cycle, Known
from keyclave.protocols.rest.framing import OneWay, check_head, decoded
from keyclave.protocols.rest.gateway import Gateway, Head, read_head
from keyclave.protocols.rest.problems import CONTENT_TYPE, problem
from keyclave.protocols.rest.routes import Routes

logger = logging.getLogger("keyclave.rest")

_SHORT = 1024  # bytes of a head that is remembered, one for each connection
_FEW = 32  # headers in it
_CHUNK_HEAD = 64  # bytes that may stand around a piece of a body


class FastLane(Answering):
    """One connection."""

    gateway: ClassVar[Gateway]
    routes: ClassVar[Routes]
    plane: ClassVar[Plane] = Plane.BOTH
    proxies: ClassVar[ProxyRule | None] = None
    most: ClassVar[int] = 20_000  # connections kept open at once
    arrivals: ClassVar[Arrivals]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head_bytes = 0
        self.body_bytes = self.pieces = 0
        self.beside = 0  # bytes that came since the head's last ones, body or not
        self.peer = Peer("")
        self.vouched = False  # whether it was looked up who sends the large body at hand
        self.whole: bytes | None = None  # what may be a whole request, and no more
        self.length = 0  # of what came last at the beginning of a request
        self.known: Known | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self.flow = OneWay(transport, self.pipeline)
        if len(self.connections) > self.most:
            transport.close()  # better nobody new than nobody at all
        self.peer = Peer(self.client[0] if self.client else "", self.plane, *self.certificates(transport))

    def certificates(self, _transport: asyncio.Transport) -> tuple[bytes | None, tuple[bytes, ...]]:
        """Return the client's certificate and those above it (DER); whoever opens the listener knows how to ask TLS for them."""
        return None, ()

    def asking(self) -> Peer:
        """Return whom the request at hand is for: the other end, or whom a trusted proxy says. `Malformed` as `asked_for`."""
        rule = self.proxies
        if rule is None or not rule.trusts(self.peer.address):
            return self.peer
        authenticated = self.gateway.names_proxy(self.peer, rule)
        if not authenticated and not rule.by_address:
            return self.peer
        return asked_for(self.peer, rule, self.headers, authenticated=authenticated)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.arrivals.add(self, data)

    def eof_received(self) -> None:
        """No more will come: what did is taken up, and what is answered leaves, while it still can."""
        self.arrivals.take_up()
        self.let_leave()

    def take(self, data: bytes) -> None:
        """Take up what came; bytes of a head are counted before they are parsed."""
        if self.refusing or self.parser is None:  # refused, or gone meanwhile
            return
        if self.departures is not None and self.departures.waiting:
            self.departures.leave()
        if not self.within:
            known, length = self.known, len(data)
            if known is not None and known.length == length and data.startswith(known.bytes) and self._idle():
                if self.timeout_keep_alive_task is not None:
                    self._unset_keepalive_if_required()
                cycle = Cycle(self, known.route, keep_alive=True)
                cycle.body = data[len(known.bytes) :]
                self.cycle = cycle  # type: ignore[assignment]
                self._submit(cycle, known.read, self.peer)
                return
            self.whole = data if self.length == length else None
            self.length = length
        else:
            self.whole = None
        if self.head_bytes >= 0:
            self.head_bytes += min(len(data), limits.HEAD + 1)
            if not self.within:
                self.within, self.heard = True, time.monotonic()
        else:
            self.beside += len(data)
        super().data_received(data)
        if self.head_bytes > limits.HEAD and not self.refusing and self.parser is not None:
            self.refuse(TooLarge(f"the request's head is larger than {limits.HEAD} bytes", "send fewer or shorter headers"))
        elif self.head_bytes < 0 and self.beside - self.body_bytes > limits.HEAD + self.pieces * _CHUNK_HEAD:
            self.refuse(Malformed("too much stands around the request's body", "send it with its Content-Length"))

    def _idle(self) -> bool:
        """Tell whether the connection waits for a request: all before it is answered, and nothing queues."""
        cycle = self.cycle
        return cycle is not None and cycle.response_complete and not self.pipeline and not self.transport.is_closing()

    def _remember(self, cycle: Cycle, read: Head) -> None:
        """Keep the head of a request that came whole, so that the next one of the same bytes is not parsed again.

        Only where the head alone says where the request ends: by the length of a body that is there, to the last byte.
        """
        whole, self.whole = self.whole, None
        if whole is None or not cycle.keep_alive or self.expect_100_continue or len(self.headers) > _FEW:
            return
        names = [name for name, _ in self.headers]
        end = whole.find(b"\r\n\r\n") + 4
        if end <= _SHORT and b"content-length" in names and b"transfer-encoding" not in names and whole[end:] == cycle.body:
            self.known = Known(whole[:end], len(whole), cycle.route, read)
            read.comes_again = True

    def on_message_begin(self) -> None:
        """A request begins; uvicorn's scope is made only for requests that take the ordinary way."""
        if not self.within:  # behind another one, in the same bytes: what comes next goes on with it, whatever it looks like
            self.within, self.heard = True, time.monotonic()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.body_bytes = self.pieces = self.beside = 0
        self.vouched = self.passed_on = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came. One behind the body says nothing (RFC 9110, 6.5.1).

        A proxy takes out of the head what only it may say, such as whose certificate it saw, and lets trailers pass.
        """
        if self.head_bytes >= 0:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete: choose the way."""
        if self.refusing:
            return
        if len(self.pipeline) >= limits.PIPELINE:
            self.refuse(LimitReached("too many requests wait on this connection", "read their answers before sending more", 1))
            return
        if self.head_bytes > limits.HEAD and len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > limits.HEAD:
            self.refuse(TooLarge(f"the request's head is larger than {limits.HEAD} bytes", "send fewer or shorter headers"))
            return
        self.head_bytes = -1
        version, upgrade = self.parser.get_http_version(), self.parser.should_upgrade()
        try:
            check_head(version, self.url, self.headers, upgrade=upgrade)
        except Malformed as error:
            self.refuse(error)
            return
        cycle = self.cycle
        if (cycle is None or cycle.response_complete) and self.parser.get_method() == b"POST":
            route = self.routes.find(self.url)
            if route is not None and not upgrade:
                keep_alive = version != "1.0" and self.parser.should_keep_alive()
                self.cycle = Cycle(self, route, keep_alive=keep_alive)  # type: ignore[assignment]
                if self.expect_100_continue:
                    self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
        try:
            peer = self.asking()
        except Malformed as error:
            self.refuse(error)
            return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.scope["extensions"] = {"keyclave.peer": peer}  # type: ignore[dict-item]
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        super().on_headers_complete()
        self.scope["path"] = decoded(self.scope["raw_path"])
        if upgrade:  # what stood behind it in the same bytes is lost to the parser
            self.cycle.keep_alive = False
        self.passed_on = not self.pipeline  # the current cycle is this request's

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for another protocol gets HTTP; no line for each in the server's log."""

    def on_body(self, body: bytes) -> None:
        """A piece of a body came."""
        if self.refusing:
            return
        self.body_bytes += len(body)
        self.pieces += 1
        if self.pieces > limits.PIECES:
            self.refuse(Malformed(f"the request comes in more than {limits.PIECES} pieces", "send it in larger ones"))
            return
        if self.body_bytes > limits.BODY:
            self.refuse(TooLarge(f"the request is larger than {limits.BODY} bytes", "send fewer items, or use a data key"))
            return
        if self.body_bytes > limits.EARLY and not self.vouched and not self._vouch():
            return
        cycle: Any = self.cycle
        if cycle.__class__ is Cycle:
            if not cycle.body:
                cycle.body = body
            else:  # in place: copying the whole for each piece would let small pieces hold up everybody
                if isinstance(cycle.body, bytes):
                    cycle.body = bytearray(cycle.body)
                cycle.body += body
        else:
            super().on_body(body)

    def _vouch(self) -> bool:
        """Look up who sends a large body before more of it is kept: nobody makes the server hold megabytes without a credential.

        What it says is no decision: the whole request is looked at again once it is there.
        """
        self.vouched = True
        try:
            self.gateway.caller(read_head(self.headers, b""), self.peer if self.proxies is None else self.asking())
        except KeyclaveError as error:
            self.refuse(error)
            return False
        except Exception as fault:  # must not reach the parser, as in `_submit`
            logger.error("a request failed", exc_info=fault)
            self.refuse(Broken("the request failed", "see the server's log"))
            return False
        return True

    def on_message_complete(self) -> None:
        """The request is complete."""
        self.within, self.head_bytes, self.passed_on = False, 0, False
        if self.refusing:
            return
        cycle: Any = self.cycle
        if cycle.__class__ is not Cycle:
            super().on_message_complete()
            return
        try:
            head = read_head(self.headers, cycle.route[2])
            peer = self.peer if self.proxies is None else self.asking()
        except KeyclaveError as error:
            status, body = problem(error)
            self.answer(cycle, status, CONTENT_TYPE, body, ())
            return
        if self.whole is not None and self.proxies is None:  # behind a proxy, who asks is judged anew each time
            self._remember(cycle, head)
        self._submit(cycle, head, peer)

    def _submit(self, cycle: Cycle, head: Head, peer: Peer) -> None:
        op, ref, _ = cycle.route
        try:
            if head.repeat is not None:
                if self.gateway.submit_again(head.repeat, cycle.body, peer, cycle.reply, cycle.ready):
                    return
                head.repeat = None
            self.gateway.submit(op, ref, head, cycle.body, peer, cycle.respond)
        except Exception as fault:  # must not reach the parser, which would take it for bytes that are not HTTP
            logger.error("a request failed", exc_info=fault)
            status, body = problem(Broken("the request failed", "see the server's log"))
            cycle.respond(status, CONTENT_TYPE, body, ())

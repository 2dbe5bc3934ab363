"""The fast lane reads the same requests out of the same bytes, however they come and whatever it remembers of earlier ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from keyclave.operations.table import OPERATIONS
from keyclave.protocols.rest.fastlane import FastLane
from keyclave.protocols.rest.routes import Routes

Asked = tuple[str, str, bytes | None, bytes | None, bytes]  # operation, key, credential, idempotency key, body


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Gateway:
    """Notes what is asked, and answers at once or when told to."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.waiting: list[Any] = []
        self.at_once = True

    def submit(self, op: Any, ref: str, head: Any, body: bytes, peer: Any, respond: Any) -> None:
        self.asked.append((op.name, ref, head.authorization, head.idempotency_key, bytes(body)))
        self.waiting.append(respond)
        if self.at_once:
            self.answer()

    def answer(self) -> None:
        self.waiting.pop(0)(200, b"application/json", b"{}", [])


class Parser:
    """Counts what reaches the parser."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self.fed = 0

    def feed_data(self, data: bytes) -> None:
        self.fed += 1
        self._parser.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class Connection:
    """One connection of the lane without a network."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.gateway, self.transport = Gateway(), Transport()
        lane = type("Lane", (FastLane,), {"gateway": self.gateway, "routes": Routes(OPERATIONS), "begun": {}, "begun_with": []})
        config = uvicorn.Config(_no_app, http=lane, log_config=None)
        config.load()
        self.lane = lane(config=config, server_state=ServerState(), app_state={}, _loop=loop)
        self.lane.connection_made(self.transport)
        self.lane.parser = self.parser = Parser(self.lane.parser)


async def _no_app(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("these requests take the lane")


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def wire(key: str, credential: str, body: bytes, *more: str, chunked: bool = False) -> bytes:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    lines = [f"POST /v1/keys/{key}/encrypt HTTP/1.1", "Host: x", f"Authorization: Bearer {credential}", *more, framing]
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked and body else b"0\r\n\r\n" if chunked else body
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + framed


KEYS, CREDENTIALS = ("ab", "cd"), ("one", "two")
BODIES = (b"", b'{"a":1}', b'{"b":2}', b"\r\n\r\n!!!", b'\r\n\r\n{"a":1}', b"POST / HTTP/1.1\r\n\r\n")
REQUESTS = st.tuples(
    st.sampled_from(KEYS), st.sampled_from(CREDENTIALS), st.sampled_from(BODIES), st.sampled_from(["", "k1", "k2"]), st.booleans()
)


@given(st.lists(st.tuples(REQUESTS, st.integers(1, 3)), max_size=8), st.lists(st.integers(1, 400), max_size=6), st.booleans())
def test_what_is_asked_does_not_depend_on_how_it_comes(
    loop: asyncio.AbstractEventLoop, plan: list[Any], cuts: list[int], whole: bool
) -> None:
    connection = Connection(loop)
    sent, expected = [], []
    for (key, credential, body, idempotency, chunked), times in plan:
        more = [f"Idempotency-Key: {idempotency}"] if idempotency else []
        sent += [wire(key, credential, body, *more, chunked=chunked)] * times
        expected += [("encrypt", key, b"Bearer " + credential.encode(), idempotency.encode() or None, body)] * times
    if not whole:
        stream, sent = b"".join(sent), []
        for size in [*cuts, len(stream)]:
            sent.append(stream[:size])
            stream = stream[size:]
    for data in sent:
        if data:
            connection.lane.data_received(data)
    assert connection.gateway.asked == expected
    assert len(connection.transport.written) == len(expected)
    assert not connection.transport.closed


def test_the_same_head_is_parsed_no_third_time(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop)
    for number in range(10):
        connection.lane.data_received(wire("ab", "one", b"%08d" % number))
    assert connection.parser.fed == 2
    assert [asked[4] for asked in connection.gateway.asked] == [b"%08d" % number for number in range(10)]
    connection.lane.data_received(wire("ab", "two", b"00000010"))
    connection.lane.data_received(wire("ab", "one", b"0000000011"))
    assert [asked[2] for asked in connection.gateway.asked[-2:]] == [b"Bearer two", b"Bearer one"]
    assert connection.parser.fed == 4


def test_a_known_head_waits_for_its_turn(loop: asyncio.AbstractEventLoop) -> None:
    """While an answer is due the next request goes through the parser, and so into uvicorn's queue."""
    connection = Connection(loop)
    for _ in range(3):
        connection.lane.data_received(wire("ab", "one", b"{}"))
    connection.gateway.at_once = False
    connection.lane.data_received(wire("ab", "one", b"[]"))
    fed = connection.parser.fed
    connection.transport.closed = True
    connection.gateway.answer()
    assert connection.parser.fed == fed
    written = len(connection.transport.written)
    connection.lane.data_received(wire("ab", "one", b"()"))
    assert connection.parser.fed == fed + 1
    assert len(connection.transport.written) == written


@pytest.mark.parametrize("more", ["Connection: close", "Expect: 100-continue", "Padding: " + "x" * 1024])
def test_a_head_that_asks_for_more_than_its_operation_is_not_remembered(loop: asyncio.AbstractEventLoop, more: str) -> None:
    connection = Connection(loop)
    for _ in range(4):
        connection.lane.data_received(wire("ab", "one", b"{}", more))
    assert connection.lane.known is None
    continued = connection.transport.written.count(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert continued == (4 if more.startswith("Expect") else 0)


def test_two_requests_that_come_together_are_two_each_time(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop)
    for _ in range(4):
        connection.lane.data_received(wire("ab", "one", b"{}") + wire("cd", "two", b"[]"))
        connection.lane.data_received(wire("cd", "two", b"[]") * 2)
    for _ in range(4):
        connection.lane.data_received(wire("ab", "one", b"{}") * 2)
    assert [(asked[1], asked[4]) for asked in connection.gateway.asked] == [
        *[("ab", b"{}"), ("cd", b"[]"), ("cd", b"[]"), ("cd", b"[]")] * 4, *[("ab", b"{}")] * 8,
    ]  # fmt: skip
    assert connection.lane.known is None


@pytest.mark.parametrize("cut", [1, 20, 60, 90])
def test_what_comes_behind_the_beginning_of_a_request_goes_on_with_it(loop: asyncio.AbstractEventLoop, cut: int) -> None:
    """Else one side would take for a header, or a body, what the other takes for a request: that is how requests are smuggled."""
    known, behind = wire("ab", "one", b"{}"), wire("cd", "two", wire("ab", "one", b"{}"), "Padding: x")
    connection = Connection(loop)
    for _ in range(3):
        connection.lane.data_received(known)
    assert connection.lane.known is not None
    connection.lane.data_received(known + behind[:cut])
    assert connection.lane.within
    fed = connection.parser.fed
    connection.lane.data_received(known)
    assert connection.parser.fed == fed + 1
    assert [asked[4] for asked in connection.gateway.asked] == [b"{}"] * 4

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
from keyclave.protocols.rest.arrivals import Arrivals
from keyclave.protocols.rest.departures import Departures
from keyclave.protocols.rest.fastlane import FastLane
from keyclave.protocols.rest.routes import Routes

Asked = tuple[str, str, bytes | None, bytes | None, bytes]  # operation, key, credential, idempotency key, body


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written: list[bytes] = []
        self.closed = False
        self.fault: Exception | None = None

    def write(self, data: Any) -> None:
        if self.fault:
            raise self.fault
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0


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

    def answer(self, *more: tuple[bytes, bytes]) -> None:
        self.waiting.pop(0)(200, b"application/json", b"{}", list(more))


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

    def __init__(self, loop: asyncio.AbstractEventLoop, departures: Departures | None = None) -> None:
        self.gateway, self.transport = Gateway(), Transport()
        own = {"gateway": self.gateway, "routes": Routes(OPERATIONS), "begun": {}, "begun_with": []}
        lane = type("Lane", (FastLane,), own | {"arrivals": Arrivals(), "departures": departures})
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
            connection.lane.take(data)
    assert connection.gateway.asked == expected
    assert len(connection.transport.written) == len(expected)
    assert not connection.transport.closed


def test_the_same_head_is_parsed_no_third_time(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop)
    for number in range(10):
        connection.lane.take(wire("ab", "one", b"%08d" % number))
    assert connection.parser.fed == 2
    assert [asked[4] for asked in connection.gateway.asked] == [b"%08d" % number for number in range(10)]
    connection.lane.take(wire("ab", "two", b"00000010"))
    connection.lane.take(wire("ab", "one", b"0000000011"))
    assert [asked[2] for asked in connection.gateway.asked[-2:]] == [b"Bearer two", b"Bearer one"]
    assert connection.parser.fed == 4


def test_a_known_head_waits_for_its_turn(loop: asyncio.AbstractEventLoop) -> None:
    """While an answer is due the next request goes through the parser, and so into uvicorn's queue."""
    connection = Connection(loop)
    for _ in range(3):
        connection.lane.take(wire("ab", "one", b"{}"))
    connection.gateway.at_once = False
    connection.lane.take(wire("ab", "one", b"[]"))
    fed = connection.parser.fed
    connection.transport.closed = True
    connection.gateway.answer()
    assert connection.parser.fed == fed
    written = len(connection.transport.written)
    connection.lane.take(wire("ab", "one", b"()"))
    assert connection.parser.fed == fed + 1
    assert len(connection.transport.written) == written


@pytest.mark.parametrize("more", ["Connection: close", "Expect: 100-continue", "Padding: " + "x" * 1024])
def test_a_head_that_asks_for_more_than_its_operation_is_not_remembered(loop: asyncio.AbstractEventLoop, more: str) -> None:
    connection = Connection(loop)
    for _ in range(4):
        connection.lane.take(wire("ab", "one", b"{}", more))
    assert connection.lane.known is None
    continued = connection.transport.written.count(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert continued == (4 if more.startswith("Expect") else 0)


def test_two_requests_that_come_together_are_two_each_time(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop)
    for _ in range(4):
        connection.lane.take(wire("ab", "one", b"{}") + wire("cd", "two", b"[]"))
        connection.lane.take(wire("cd", "two", b"[]") * 2)
    for _ in range(4):
        connection.lane.take(wire("ab", "one", b"{}") * 2)
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
        connection.lane.take(known)
    assert connection.lane.known is not None
    connection.lane.take(known + behind[:cut])
    assert connection.lane.within
    fed = connection.parser.fed
    connection.lane.take(known)
    assert connection.parser.fed == fed + 1
    assert [asked[4] for asked in connection.gateway.asked] == [b"{}"] * 4


# ---- the turns of the loop ------------------------------------------------------------------------------------------------
def turn(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop do what was left for its next turn."""
    loop.run_until_complete(asyncio.sleep(0))


COMES = st.sampled_from([
    wire("ab", "one", b"{}"), wire("ab", "one", b"{}") * 2, wire("cd", "two", b"[]", "Expect: 100-continue"),
    wire("ab", "one", b"{}") + wire("ab", "one", b"[]", "Expect: 100-continue"), wire("ab", "one", b"{}")[:50],
    wire("ab", "one", b"{}") + b"\0garbage", b"\0garbage", wire("cd", "two", b"{}", "Connection: close"),
    wire("ab", "one", b"{}", "Keyclave-Purpose: a", "Keyclave-Purpose: b"),
])  # fmt: skip
HAPPENS = st.lists(st.one_of(COMES, st.sampled_from(["turn", "answer", "later", "end", "over"])), max_size=12)


@given(HAPPENS)
def test_answers_that_leave_together_are_the_same_bytes_in_the_same_order(
    loop: asyncio.AbstractEventLoop, plan: list[bytes | str]
) -> None:
    """Each of two connections lives through the same, one with answers that wait; what was written when it closed counts."""
    seen = []
    for connection in (Connection(loop), Connection(loop, Departures())):
        for happens in plan:
            if isinstance(happens, bytes):
                connection.lane.data_received(happens)
                turn(loop)
            elif happens == "turn":
                turn(loop)
            elif happens == "later":
                connection.gateway.at_once = False
            elif happens == "answer" and connection.gateway.waiting:
                connection.gateway.answer()
            elif happens == "end":
                connection.lane.shutdown()
            elif happens == "over":
                connection.lane.eof_received()
        turn(loop)
        turn(loop)
        seen.append((connection.transport.written, connection.transport.closed, connection.gateway.asked))
    assert seen[0] == seen[1]


def test_what_came_in_one_turn_is_taken_up_in_the_order_in_which_it_came(loop: asyncio.AbstractEventLoop) -> None:
    arrivals, one, two = Arrivals(), Taker(loop), Taker(loop)
    for connection, data in ((one, b"a"), (two, b"b"), (one, b"c")):
        arrivals.add(connection, data)
    assert not one.took and not two.took
    turn(loop)
    assert one.took == [b"a", b"c"]
    assert two.took == [b"b"]
    arrivals.add(two, b"d")
    turn(loop)
    assert two.took == [b"b", b"d"]


def test_much_does_not_wait_for_the_next_turn(loop: asyncio.AbstractEventLoop) -> None:
    arrivals, one = Arrivals(), Taker(loop)
    arrivals.add(one, b"a")
    for _ in range(3):
        arrivals.add(one, bytes(40_000))
    assert [len(data) for data in one.took] == [1, 40_000, 40_000]
    turn(loop)
    assert len(one.took) == 4


def test_a_connection_that_fails_fails_alone(loop: asyncio.AbstractEventLoop) -> None:
    arrivals, bad, good = Arrivals(), Taker(loop), Taker(loop)
    bad.fault = good.transport.fault = RuntimeError("as a test wants it")
    arrivals.add(bad, b"a")
    arrivals.add(good, b"b")
    turn(loop)
    assert (bad.transport.closed, good.took) == (True, [b"b"])
    departures, well = Departures(), Taker(loop)
    departures.add(good, b"c")
    departures.add(well, b"d")
    turn(loop)
    assert (good.transport.closed, well.transport.written) == (True, [b"d"])


class Taker:
    """A connection that notes what it takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.transport = loop, Transport()
        self.took: list[bytes] = []
        self.fault: Exception | None = None

    def take(self, data: bytes) -> None:
        if self.fault:
            raise self.fault
        self.took.append(data)


def test_heads_are_kept_for_a_second_but_not_many_and_none_with_a_secret(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop)
    connection.gateway.at_once = False
    headers = [(b"set-cookie", b"token=secret"), *((b"etag", b'"%d"' % number) for number in range(200)), (b"etag", b'"7"')]
    for header in headers:
        connection.lane.take(wire("ab", "one", b"{}"))
        connection.gateway.answer(header)
        head, _, body = connection.transport.written[-1].partition(b"\r\n\r\n")
        assert head.split(b"\r\n").count(b": ".join(header)) == 1 and body == b"{}"
        assert head.count(b"set-cookie") + head.count(b"etag") == 1
    kept = connection.lane.begun
    assert 1 < len(kept) <= 64
    assert not any(b"secret" in head for head in kept.values())

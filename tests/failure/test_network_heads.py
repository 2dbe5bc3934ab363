"""Where a request's head ends and what it says: nothing that two readers could read differently, and nothing without an end."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from keyclave.protocols.rest.answering import IDLE_SECONDS, REQUEST_SECONDS
from keyclave.protocols.rest.fastlane import FastLane
from tests.live import Live, launch
from tests.store.raw_http import Closed, Raw, Said, request

ENCRYPT = json.dumps({"plaintext": base64.b64encode(b"record").decode()}).encode()
PATH = "/v1/keys/net/encrypt"
FLOOD = 64 * 1024 * 1024
CHUNKED = "Transfer-Encoding: chunked"
UPGRADE = ("Connection: upgrade", "Upgrade: h2c")

pytestmark = pytest.mark.requirement("R1", "R11")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = launch(tmp_path_factory.mktemp("heads"))
    live.create_key("net")
    live.tokens["app"] = live.token(["encrypt", "decrypt", "random"], ["net"])
    yield live
    live.stop()


@pytest.fixture
def app(server: Live) -> str:
    return server.tokens["app"]


def one_answer(server: Live, data: bytes) -> Said:
    """Send, and return the only answer: the connection is closed behind it."""
    with Raw(server) as raw:
        raw.send(data)
        said = raw.read()
        assert raw.closed()
    return said


def events(server: Live) -> int:
    """Return how many attempts are on record; failed authentication is told each second, that of earlier tests among it."""
    page = server.get("/v1/audit/events?limit=1000", "auditor").json()
    assert page["next"] is None
    return sum(event["op"] not in ("authenticate", "log-read") for event in page["events"])


def resident(server: Live) -> int:
    """Return the KiB that the server has in memory."""
    with open(f"/proc/{server.process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


# ---- trailers -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_credential_behind_the_body_is_none(server: Live, app: str, method: str) -> None:
    """A proxy takes headers that only it may send out of the head, and lets trailers pass."""
    path, body = (PATH, b"%x\r\n%b\r\n" % (len(ENCRYPT), ENCRYPT)) if method == "POST" else ("/v1/whoami", b"")
    with Raw(server) as raw:
        trailers = b"0\r\nAuthorization: Bearer %b\r\nIdempotency-Key: x\r\n\r\n" % app.encode()
        raw.send(request(method, path, "", body + trailers, CHUNKED))
        assert raw.read().status == 401
        raw.send(
            request(method, path, app, body + b"0\r\nIf-Match: 7\r\nIdempotency-Key: \r\nKeyclave-Purpose: x\r\n\r\n", CHUNKED)
        )
        assert raw.read().status == 200
        raw.send(request("POST", PATH, app, ENCRYPT))
        assert raw.read().status == 200


@pytest.mark.parametrize("path", ["/v1/random", "/v1/unseal"], ids=["fast lane", "ordinary"])
@pytest.mark.parametrize(
    ("head", "piece"),
    [(b"0\r\n", b"a:\r\n"), (b"0\r\na: ", b"a" * 64), (b"2;", b"a" * 64), (b"2\r\n{}\r\n2;a=", b'"' + b"b" * 63)],
    ids=["trailers", "one trailer", "an extension", "an extension further on"],
)
def test_what_stands_around_a_body_has_an_end(server: Live, path: str, head: bytes, piece: bytes) -> None:
    before = resident(server)
    with Raw(server) as raw:
        raw.send(request("POST", path, "", head, CHUNKED))
        some = piece * (65_536 // len(piece))
        with suppress(OSError):  # which the server may cut off, and else reads on for nothing
            for _ in range(FLOOD // len(some)):
                raw.send(some)
        said = raw.read()
        assert (said.status, said.json["code"]) == (400, "malformed")
    assert resident(server) - before < 20_000
    assert server.get("/v1/status").status_code == 200


def test_a_body_in_many_small_chunks_is_taken(server: Live, app: str) -> None:
    body = b'{"plaintext":"' + base64.b64encode(bytes(3000)) + b'"}'
    chunks = b"".join(b"1;last=no\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    with Raw(server) as raw:
        raw.send(request("POST", PATH, app, chunks, CHUNKED), 1000)
        assert raw.read().status == 200


# ---- another protocol -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("framing", ["Content-Length: 13", CHUNKED])
@pytest.mark.parametrize("path", [PATH, "/v1/unseal"], ids=["fast lane", "ordinary"])
def test_a_body_behind_an_upgrade_is_never_dropped(server: Live, app: str, path: str, framing: str) -> None:
    """The parser takes it for bytes of the other protocol: the operation would be done without it, and it for a request."""
    before = events(server)
    with Raw(server) as raw:
        raw.send(request("POST", path, app, None, framing, *UPGRADE))
        raw.send(request("GET", "/v1/whoami", app))
        said = raw.read()
        assert (said.status, said.json["code"], said.headers["connection"]) == (400, "malformed", "close")
        assert raw.closed()
    assert events(server) == before


def test_who_asks_for_another_protocol_without_a_body_gets_this_one_and_the_end(server: Live, app: str) -> None:
    behind = request("GET", "/v1/whoami", app)
    assert one_answer(server, request("GET", "/v1/status", "", None, *UPGRADE)).status == 200
    assert one_answer(server, request("GET", "/v1/status", "", None, *UPGRADE) + behind).status == 200
    assert one_answer(server, request("POST", "/v1/random", app, b"", *UPGRADE)).status == 200


# ---- framing --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "head",
    [
        "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n",
        "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "POST {path} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
        "POST {path} HTTP/1.1\r\nContent-Length: 0\r\n",
        "POST {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n",
        "POST {path} HTTP/2.0\r\nHost: a\r\nContent-Length: 0\r\n",
        "GET /v1/whoami HTTP/1.1\r\n",
        "GET /v1/whoami HTTP/1.1\r\nHost: a\r\nhost: a\r\n",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused_with_all_that_follows(server: Live, app: str, head: str) -> None:
    before = events(server)
    data = (head.format(path=PATH) + f"Authorization: Bearer {app}\r\n\r\n").encode()
    data += b"0\r\n\r\n" if "chunked" in head else b""
    said = one_answer(server, data + request("GET", "/v1/whoami", app) + request("POST", PATH, app, ENCRYPT))
    assert (said.status, said.json["code"], said.headers["connection"]) == (400, "malformed", "close")
    assert events(server) == before


def test_host_may_be_missing_in_http_1_0(server: Live) -> None:
    assert one_answer(server, b"GET /v1/status HTTP/1.0\r\n\r\n").status == 200


# ---- paths ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/%6Beys/net/encrypt", 400),
        ("POST", "/v1/keys/%6eet/encrypt", 400),
        ("GET", "/v1/%73tatus", 400),
        ("GET", "/v1/%2e%2e/status", 400),
        ("POST", "/v1/keys/net%2Fencrypt", 405),
        ("POST", "/v1/keys%2fnet/encrypt", 404),
        ("GET", "/v1/status%0a", 404),
        ("GET", "/v1/status%7f", 404),
        ("GET", "/v1/log/checkpoint/" + "9" * 5000, 404),
        ("GET", "/v1/log/checkpoint/-1", 404),
        ("GET", "/v1/log/checkpoint/1_0", 404),
        ("GET", "/v1/log/checkpoint/%D9%A1", 404),
        ("GET", "/v1/log/tile/0/" + "x000/" * 1700 + "000", 400),
        ("GET", "/v1/log/tile/0/000%0a", 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_path_has_one_spelling(server: Live, method: str, path: str, status: int) -> None:
    logged = server.log_file.stat().st_size
    token = server.tokens["auditor" if "/log/" in path else "app"]
    with Raw(server) as raw:
        raw.send(request(method, path, token, ENCRYPT if method == "POST" else None))
        said = raw.read()
    assert (said.status, said.headers["content-type"]) == (status, "application/problem+json"), said.body
    assert server.log_file.stat().st_size == logged


# ---- who does not read ----------------------------------------------------------------------------------------------------
def flood(raw: Raw, one: bytes) -> int:
    """Send the same request until nothing more is taken; return how many whole ones were."""
    many, sent = one * (65_536 // len(one)), 0
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    raw.socket.settimeout(3)
    with suppress(OSError):
        while sent < FLOOD:
            sent += raw.socket.send(many[sent % len(many) :])
    raw.socket.settimeout(20)
    return sent // len(one)


def test_who_does_not_read_is_asked_for_nothing_more(server: Live) -> None:
    before = resident(server)
    with Raw(server) as raw:
        sent = flood(raw, request("POST", "/v1/random", "", b""))
        assert sent * 50 < FLOOD
        assert resident(server) - before < 30_000
        for _ in range(sent):  # and whoever reads after all gets every answer
            assert raw.read().status in (401, 429)


def test_requests_that_wait_for_each_other_are_only_so_many(server: Live) -> None:
    before = resident(server)
    with Raw(server) as raw:
        sent = flood(raw, request("GET", "/v1/status"))
        assert resident(server) - before < 30_000
        answers = 0
        with suppress(Closed):
            while (said := raw.read()).status == 200:
                answers += 1
            assert (said.status, said.headers["connection"]) == (429, "close")
        assert answers < sent


def test_a_thousand_requests_may_wait(server: Live) -> None:
    with Raw(server) as raw:
        raw.send(request("GET", "/v1/status") * 1000)
        for _ in range(1000):
            assert raw.read().status == 200


def test_whoever_never_reads_is_cut_off_and_whoever_reads_slowly_is_not() -> None:
    ended: list[str] = []
    left = 1000
    lane = FastLane.__new__(FastLane)
    lane.heard, lane.within, lane.cycle, lane.unread = 0.0, False, None, 0
    lane.transport = SimpleNamespace(  # type: ignore[assignment]
        close=lambda: ended.append("closed"), abort=lambda: ended.append("aborted"), get_write_buffer_size=lambda: left
    )
    for at in range(0, 3000, 25):  # a little at each look
        left -= 1
        lane.sweep(float(at))
    assert ended == []
    lane.sweep(at + REQUEST_SECONDS - 1)
    assert ended == []
    lane.sweep(at + REQUEST_SECONDS + 1)
    assert ended == ["aborted"]
    left, lane.heard = 0, 5000.0
    lane.sweep(5000 + IDLE_SECONDS + 1)
    assert ended == ["aborted", "closed"]


def test_a_connection_that_is_refused_says_so_before_it_ends(server: Live) -> None:
    with Raw(server) as raw, pytest.raises(Closed):
        raw.send(b"GET / HTTP/9.9\r\n\r\n")
        assert raw.read().status == 400
        raw.read()

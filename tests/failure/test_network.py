"""Connections that misbehave: clear answers, in order, and a server that is well for everybody else."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, launch
from tests.store.raw_http import Closed, Raw, chunked, request

TEXT = base64.b64encode(b"record").decode()
ENCRYPT = json.dumps({"plaintext": TEXT}).encode()
PATH = "/v1/keys/net/encrypt"
BODY = 8 * 1024 * 1024
HEAD = 32 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = launch(tmp_path_factory.mktemp("net"))
    live.create_key("net")
    live.tokens["app"] = live.token(["encrypt", "decrypt", "random"], ["net"])
    yield live
    live.stop()


@pytest.fixture(autouse=True)
def still_well(server: Live) -> Iterator[None]:
    """Whatever a test does to a connection, everybody else is served as before."""
    yield
    assert server.process.poll() is None
    began = time.monotonic()
    assert server.post(PATH, "app", {"plaintext": TEXT}).status_code == 200
    assert time.monotonic() - began < 2


def app(server: Live) -> str:
    return server.tokens["app"]


# ---- order ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("piece", [0, 1, 97], ids=["at once", "byte by byte", "in pieces"])
def test_pipelined_requests_of_both_lanes_are_answered_in_order(server: Live, piece: int) -> None:
    """Quick operations, ordinary reads, slow ones on worker threads, refusals and paths that are not there, on one connection."""
    kinds = [
        (request("POST", PATH, app(server), ENCRYPT), 200, "ciphertext"),
        (request("GET", "/v1/whoami", app(server)), 200, "principal"),
        (request("POST", "/v1/random", app(server), b'{"bytes":16}'), 200, "random"),
        (request("POST", PATH, "kct_nobody", ENCRYPT), 401, "code"),
        (request("GET", "/v1/nowhere"), 404, "code"),
        (request("POST", "/v1/keys/net/rotate", app(server), b"{}"), 403, "code"),
        (request("POST", "/v1/import/parameters", server.tokens["custodian"], b"{}"), 200, "wrapping_key"),
        (request("POST", PATH, app(server), b"{nonsense"), 400, "code"),
    ]
    order = [kinds[n % len(kinds)] for n in (0, 1, 0, 2, 3, 0, 6, 0, 4, 5, 0, 1, 1, 2, 7, 0)]
    if not piece:
        order += [kinds[n % 6] for n in range(100)]
    with Raw(server) as raw:
        raw.send(b"".join(sent for sent, _, _ in order), piece)
        for number, (_, status, field) in enumerate(order):
            said = raw.read()
            assert (said.status, field in said.json) == (status, True), (number, said)
        raw.send(request("GET", "/v1/status"))
        assert raw.read().status == 200


def test_a_connection_is_used_again_and_again(server: Live) -> None:
    with Raw(server) as raw:
        seen = set()
        for _ in range(50):
            raw.send(request("POST", PATH, app(server), ENCRYPT))
            seen.add(raw.read().json["ciphertext"])
    assert len(seen) == 50


def test_answers_are_told_apart_by_their_request_on_many_connections_at_once(server: Live) -> None:
    """Each connection encrypts its own text; what it decrypts must be its own."""
    wrong: list[str] = []

    def client(number: int) -> None:
        text = base64.b64encode(f"client {number}".encode()).decode()
        with Raw(server) as raw:
            for _ in range(10):
                raw.send(request("POST", PATH, app(server), json.dumps({"plaintext": text}).encode()) * 3)
                sealed = [raw.read().json["ciphertext"] for _ in range(3)]
                raw.send(
                    b"".join(
                        request("POST", "/v1/keys/net/decrypt", app(server), json.dumps({"ciphertext": c}).encode())
                        for c in sealed
                    )
                )
                wrong.extend(got for got in (raw.read().json.get("plaintext") for _ in range(3)) if got != text)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


# ---- framing --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("path", [PATH, "/v1/unseal"], ids=["fast lane", "ordinary"])
def test_a_chunked_body_is_a_body(server: Live, path: str, size: int) -> None:
    body = ENCRYPT if path == PATH else json.dumps({"share": "kcs1-" + "A" * 50}).encode()
    with Raw(server) as raw:
        raw.send(request("POST", path, app(server), chunked(body, size), "Transfer-Encoding: chunked"))
        said = raw.read()
        assert said.status == (200 if path == PATH else 409), said
        raw.send(request("GET", "/v1/status"))
        assert raw.read().status == 200


def test_chunk_extensions_and_trailers_change_nothing(server: Live) -> None:
    body = b"%x;name=value\r\n%b\r\n0\r\nTrailer: here\r\n\r\n" % (len(ENCRYPT), ENCRYPT)
    with Raw(server) as raw:
        raw.send(request("POST", PATH, app(server), body, "Transfer-Encoding: chunked"))
        assert raw.read().status == 200
        raw.send(request("POST", PATH, app(server), ENCRYPT))
        assert raw.read().status == 200


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: -1",),
        ("Content-Length: 1e3",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked, identity",),
        ("Content-Length : 5",),
        ("Content-Length: 18446744073709551616",),
    ],
    ids=" and ".join,
)
def test_framing_that_two_readers_could_read_differently_is_refused_and_the_connection_closed(
    server: Live, framing: tuple[str, ...]
) -> None:
    """A request smuggled behind such a body must not be taken for one."""
    smuggled = request("POST", PATH, app(server), ENCRYPT)
    with Raw(server) as raw:
        raw.send(request("POST", PATH, app(server), b"0\r\n\r\n" + smuggled, *framing))
        said = raw.read()
        assert (said.status, said.json["code"]) == (400, "malformed")
        assert said.headers["connection"] == "close"
        assert raw.closed()


@pytest.mark.parametrize("path", [PATH, "/v1/unseal"], ids=["fast lane", "ordinary"])
def test_a_client_that_waits_for_100_continue_gets_it(server: Live, path: str) -> None:
    body = ENCRYPT if path == PATH else b'{"share":"kcs1-0"}'
    with Raw(server) as raw:
        raw.send(request("POST", path, app(server), None, "Expect: 100-continue", f"Content-Length: {len(body)}"))
        assert raw.read().status == 100
        raw.send(body)
        assert raw.read().status == (200 if path == PATH else 409)


def test_http_1_0_is_answered_and_closed(server: Live) -> None:
    for path, body in ((PATH, ENCRYPT), ("/v1/status", None)):
        with Raw(server) as raw:
            raw.send(request("POST" if body else "GET", path, app(server), body, version="1.0"))
            said = raw.read()
            assert (said.status, said.headers.get("connection")) == (200, "close")
            assert raw.closed()


def test_close_is_heeded_in_both_lanes(server: Live) -> None:
    for path, body in ((PATH, ENCRYPT), ("/v1/status", None)):
        with Raw(server) as raw:
            raw.send(request("POST" if body else "GET", path, app(server), body, "Connection: close"))
            assert raw.read().headers.get("connection") == "close"
            assert raw.closed()


def test_head_has_no_body_and_the_next_answer_is_in_its_place(server: Live) -> None:
    with Raw(server) as raw:
        raw.send(request("HEAD", "/v1/status") + request("GET", "/v1/status") + request("HEAD", "/v1/whoami", app(server)))
        head = raw.read(body=False)
        full = raw.read()
        assert (head.status, full.status) == (200, 200)
        assert head.headers["content-length"] == full.headers["content-length"] == str(len(full.body))
        assert raw.read(body=False).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "PROPFIND"])
def test_methods_that_are_not_there_are_refused(server: Live, method: str) -> None:
    target = "localhost:443" if method == "CONNECT" else "/v1/random"
    with Raw(server) as raw:
        raw.send(request(method, target, app(server)))
        said = raw.read()
        assert said.status in (400, 404, 405)
        assert said.headers["content-type"] == "application/problem+json"
        if said.status == 405:
            assert said.headers["allow"] == "POST"


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "TLS/1.3"])
def test_the_connection_is_upgraded_to_nothing(server: Live, upgrade: str) -> None:
    more = [f"Upgrade: {upgrade}", "Connection: Upgrade"]
    if upgrade == "websocket":
        more += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    for method, path, body in (("GET", "/v1/status", None), ("POST", PATH, ENCRYPT)):
        with Raw(server) as raw:
            raw.send(request(method, path, app(server), body, *more))
            assert raw.read().status in (200, 400)


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key", "If-Match"])
def test_a_header_that_counts_is_there_once(server: Live, name: str) -> None:
    with Raw(server) as raw:
        raw.send(
            request(
                "POST",
                "/v1/keys/net/rotate",
                "",
                b"{}",
                f"{name}: Bearer {app(server)}",
                f"{name}: Bearer {server.tokens['operator']}",
            )
        )
        said = raw.read()
        assert (said.status, said.json["code"]) == (400, "malformed")
        raw.send(request("GET", "/v1/status"))
        assert raw.read().status == 200


# ---- too large ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["one long header", "many headers", "a long path", "headers without end"])
def test_a_head_that_is_too_large_is_refused_and_the_connection_closed(server: Live, way: str) -> None:
    sent = {
        "one long header": request("POST", PATH, app(server), ENCRYPT, "X: " + "a" * HEAD),
        "many headers": request("POST", PATH, app(server), ENCRYPT, *[f"X-{n}: {'a' * 90}" for n in range(400)]),
        "a long path": request("GET", "/v1/keys/" + "a" * HEAD, app(server)),
        "headers without end": b"POST /v1/random HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (HEAD + 1000),
    }[way]
    with Raw(server) as raw:
        raw.send(sent, 1024)
        said = raw.read()
        assert said.status in (413, 431)
        assert (said.json["code"], said.headers["connection"]) == ("too_large", "close")
        assert raw.closed()


def test_a_head_that_is_just_not_too_large_is_taken(server: Live) -> None:
    with Raw(server) as raw:
        raw.send(request("POST", PATH, app(server), ENCRYPT, "X: " + "a" * (HEAD - 1000)), 500)
        assert raw.read().status == 200


@pytest.mark.parametrize("path", [PATH, "/v1/unseal", "/v1/nowhere"], ids=["fast lane", "ordinary", "nowhere"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_that_is_too_large_is_refused_and_the_connection_closed(server: Live, path: str, framing: str) -> None:
    size = BODY + 1
    with Raw(server) as raw:
        if framing == "length":
            raw.send(request("POST", path, app(server), None, f"Content-Length: {size}"))
        else:
            raw.send(request("POST", path, app(server), None, "Transfer-Encoding: chunked"))
        raw.socket.settimeout(5)
        try:
            for at in range(0, size, 1 << 16):
                piece = bytes(min(1 << 16, size - at))
                raw.send(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass  # it has heard enough
        try:
            said = raw.read()
        except Closed:
            assert path != PATH  # where nobody is asked yet the connection may end without a word
            return
        assert said.status == (404 if path == "/v1/nowhere" else 413), said


def test_a_body_in_a_million_pieces_does_not_hold_up_the_others(server: Live) -> None:
    """One-byte chunks, from somebody without a credential: the work must grow with the bytes, not with their square."""
    attack = request("POST", PATH, "kct_nobody", None, "Transfer-Encoding: chunked")
    pieces = b"1\r\na\r\n" * 4096
    stop = threading.Event()

    said: list[int] = []

    def attacker() -> None:
        with Raw(server) as raw:
            try:
                raw.send(attack)
                for _ in range(200):
                    if stop.is_set():
                        return
                    raw.send(pieces)
                raw.send(b"0\r\n\r\n")
                said.append(raw.read().status)
            except (Closed, OSError):  # it has heard enough, and said so to whoever listens
                said.append(400)

    thread = threading.Thread(target=attacker)
    thread.start()
    worst = 0.0
    while thread.is_alive() and worst < 2:
        began = time.monotonic()
        assert server.post(PATH, "app", {"plaintext": TEXT}).status_code == 200
        worst = max(worst, time.monotonic() - began)
    stop.set()
    thread.join(60)
    assert worst < 2
    assert said in ([400], [401])


# ---- what is not HTTP -----------------------------------------------------------------------------------------------------
GARBAGE = {
    "random": os.urandom(4096),
    "zeros": bytes(4096),
    "an answer": b"HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.7": b"GET /v1/status HTTP/3.7\r\nHost: x\r\n\r\n",
    "bare line feeds in a name": b"GET /v1/status HTTP/1.1\r\nHo\nst: x\r\n\r\n",
    "a NUL in a value": b"GET /v1/status HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    "a space before the colon": b"GET /v1/status HTTP/1.1\r\nHost : x\r\n\r\n",
    "a folded header": b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_bytes_that_are_no_request_are_refused_and_the_connection_closed(server: Live, what: str) -> None:
    with Raw(server) as raw:
        raw.send(GARBAGE[what])
        try:
            said = raw.read()
        except Closed:
            return
        assert said.status == 400, said
        assert said.headers["connection"] == "close"
        assert raw.closed()


def test_garbage_behind_a_good_request_does_not_take_its_answer_away(server: Live) -> None:
    with Raw(server) as raw:
        raw.send(request("POST", PATH, app(server), ENCRYPT))
        assert raw.read().status == 200
        raw.send(b"\x00\xff garbage\r\n\r\n")
        assert raw.read().status == 400
        assert raw.closed()


@pytest.mark.requirement("R1")
def test_nothing_is_spoken_but_tls_1_3(server: Live) -> None:
    with Raw(server, tls=False) as raw:
        raw.send(request("GET", "/v1/status"))
        with pytest.raises((Closed, AssertionError, ValueError)):
            raw.read()
    old = ssl.create_default_context(cafile=server.ca_file)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain, server_hostname="localhost")


# ---- clients that go ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_client_that_goes_before_its_answer_and_comes_again_finds_its_change_made_once(server: Live, how: str) -> None:
    for number in range(10):
        body = json.dumps({"name": f"{how}-{number}", "owner": "o"}).encode()
        asked = request("POST", "/v1/keys", server.tokens["custodian"], body, f"Idempotency-Key: {how}-{number}")
        with Raw(server) as raw:
            raw.send(asked)
            if how == "reset":
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with Raw(server) as raw:
            raw.send(asked)
            assert raw.read().status == 201
    made = [k["name"] for k in server.get(f"/v1/keys?name={how}-", "custodian").json()["keys"]]
    assert made == [f"{how}-{n}" for n in range(10)]
    events = server.get("/v1/audit/events?operation=key-create&limit=1000", "auditor").json()["events"]
    done = [e["detail"]["name"] for e in events if e["outcome"] == "ok" and "name" in e["detail"]]
    assert sorted(name for name in done if name.startswith(how)) == made


@pytest.mark.parametrize("part", [1, 20, 150, -1], ids=["a byte", "half a line", "half a head", "half a body"])
def test_a_client_that_goes_in_the_middle_of_a_request_has_asked_for_nothing(server: Live, part: int) -> None:
    def created() -> list[str]:
        page = server.get("/v1/audit/events", "auditor", params={"operation": "key-create", "limit": 1000}).json()
        return [event["id"] for event in page["events"]]

    before = created()
    whole = request("POST", "/v1/keys", server.tokens["custodian"], json.dumps({"name": f"half-{part}", "owner": "o"}).encode())
    for _ in range(20):
        with Raw(server) as raw:
            raw.send(whole[:part])
    assert server.get(f"/v1/keys/half-{part}", "custodian").status_code == 404
    assert created() == before


def test_a_client_that_reads_nothing_does_not_fill_the_memory(server: Live) -> None:
    """It asks for far more than it takes; the server stops listening to it instead of keeping its answers."""
    items = json.dumps({"items": [{"bytes": 1024}] * 1000}).encode()
    asked = request("POST", "/v1/random/batch", app(server), items)
    with Raw(server, timeout=0.5) as raw:
        raw.send(asked)
        assert len(raw.read().body) > 1_300_000
        before = resident(server)
        try:
            for _ in range(100):  # 1.4 MB of answer each
                raw.send(asked)
                time.sleep(0.03)  # long enough for the answer: a pipelined request would wait for it
        except TimeoutError:
            pass  # it does not listen any more
        assert resident(server) - before < 64
        assert server.post(PATH, "app", {"plaintext": TEXT}).status_code == 200


def resident(server: Live) -> int:
    """Return the server's resident memory in MiB."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmRSS")

"""Slow, half-open and idle connections: given their time, then let go, and nobody else notices."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drill import set_limits
from drill.idle import connect, most_connections, slowest_request
from tests.live import ENVIRONMENT, Live, launch, wait_until_up
from tests.store.raw_http import Closed, Raw, request

REQUEST_SECONDS, IDLE_SECONDS = 2, 4
MARGIN = 4  # seconds: the sweep comes each second, and the machine may be busy
ENCRYPT = json.dumps({"plaintext": "cmVjb3Jk"}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with little patience."""
    live = launch(tmp_path_factory.mktemp("slow"))
    live.create_key("drill")
    live.tokens["app"] = live.token(["encrypt"], ["drill"])
    live.kill()
    limits = [str(REQUEST_SECONDS), str(IDLE_SECONDS)]
    command = [
        sys.executable,
        str(Path(set_limits.__file__)),
        *limits,
        "serve",
        "--home",
        str(live.home),
        "--port",
        str(live.port),
    ]
    live.process = subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until_up(live.url, live.ca_file, live.process)
    live.unseal()
    yield live
    live.stop()


def seconds_until_closed(raw: Raw) -> float:
    """Wait until the server closes the connection, with or without a word."""
    began = time.monotonic()
    try:
        while True:
            raw.read()
    except Closed:
        return time.monotonic() - began


WHOLE = request("POST", "/v1/keys/drill/encrypt", "kct_somebody", ENCRYPT)
ORDINARY = request("POST", "/v1/unseal", "", b'{"share":"kcs1-0000"}')


PARTS = {
    "a byte": WHOLE[:1],
    "half a head": WHOLE[:60],
    "all but a byte": WHOLE[:-1],
    "all but a byte, ordinary": ORDINARY[:-1],
    "half a request behind a whole one": request("GET", "/v1/status") + WHOLE[:10],
}


def test_a_request_that_does_not_come_to_its_end_is_given_up(server: Live) -> None:
    def hold(part: bytes) -> float:
        with Raw(server) as raw:
            raw.send(part)
            return seconds_until_closed(raw)

    with ThreadPoolExecutor(len(PARTS)) as pool:
        seconds = dict(zip(PARTS, pool.map(hold, PARTS.values()), strict=True))
    assert all(REQUEST_SECONDS - 1 < taken < IDLE_SECONDS + MARGIN for taken in seconds.values()), seconds


def test_a_byte_now_and_then_buys_no_time(server: Live) -> None:
    """The time is for the whole request, not from byte to byte: else one client could hold connections for ever."""
    with Raw(server) as raw:
        began = time.monotonic()
        try:
            for byte in WHOLE:
                raw.send(bytes([byte]))
                raw.socket.settimeout(0.2)
                try:
                    raw.read()
                except TimeoutError:
                    continue
        except (Closed, OSError):
            pass
        assert time.monotonic() - began < REQUEST_SECONDS + MARGIN


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(server: Live) -> None:
    with Raw(server) as idle, Raw(server) as busy:
        idle.send(request("POST", "/v1/keys/drill/encrypt", server.tokens["app"], ENCRYPT))
        assert idle.read().status == 200
        gone: list[float] = []
        thread = threading.Thread(target=lambda: gone.append(seconds_until_closed(idle)))
        thread.start()
        while thread.is_alive():
            busy.send(request("POST", "/v1/keys/drill/encrypt", server.tokens["app"], ENCRYPT))
            assert busy.read().status == 200
            thread.join(0.5)
        assert IDLE_SECONDS - 1 < gone[0] < IDLE_SECONDS + MARGIN


def test_a_slow_operation_is_not_cut_off(server: Live) -> None:
    """Making an RSA key may take longer than a request may take to arrive."""
    with Raw(server, timeout=60) as raw:
        for _ in range(4):
            raw.send(request("POST", "/v1/import/parameters", server.tokens["custodian"], b"{}"))
        assert [raw.read().status for _ in range(4)] == [200] * 4


def test_a_connection_that_never_speaks_tls_does_not_count_for_long(server: Live) -> None:
    """Half-open: the TCP connection stands and nothing ever comes."""
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    try:
        assert slowest_request(server, server.tokens["app"], 50) < 1
    finally:
        for one in silent:
            one.close()


def test_half_closed_connections_are_answered_or_closed_and_never_kept(server: Live) -> None:
    with Raw(server, tls=False) as raw:
        raw.send(b"\x16\x03\x01")
        raw.socket.shutdown(socket.SHUT_WR)
        assert seconds_until_closed(raw) < REQUEST_SECONDS + MARGIN


def test_two_thousand_idle_connections_slow_nobody_down_and_are_let_go(server: Live) -> None:
    count = most_connections(2_000)
    assert count >= 400
    sockets = connect(server, count)
    try:
        assert slowest_request(server, server.tokens["app"], 100) < 1
    finally:
        for tls in sockets:
            tls.close()
    assert slowest_request(server, server.tokens["app"], 20) < 1

"""Ten thousand connections that say nothing, and some that say half of something: the server serves the others all the while, and
lets go of the idle ones in its own time.
"""

from __future__ import annotations

import resource
import select
import socket
import ssl
import tempfile
import time
from pathlib import Path

from drill.result import Result
from drill.wire import Wire
from tests.live import Live, launch

_BACKLOG = 200  # TLS handshakes under way at once
_SLOWEST = 1.0  # seconds that a request may take beside all of them
_REQUEST, _IDLE = 30, 75  # seconds that the server gives a request, and an idle connection
_GRACE = 15
_HALF = b"POST /v1/random HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"


def most_connections(wanted: int) -> int:
    """Raise this process's limit of open files and return how many of `wanted` connections it allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = min(hard, wanted + 512) if hard != resource.RLIM_INFINITY else wanted + 512
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, soft - 512)


def connect(live: Live, count: int) -> list[ssl.SSLSocket]:
    """Open `count` TLS connections, many handshakes at a time; those that the server does not take are missing."""
    context = ssl.create_default_context(cafile=live.ca_file)
    done: list[ssl.SSLSocket] = []
    refused = 0
    while len(done) + refused < count:
        waiting: dict[int, ssl.SSLSocket] = {}
        poll = select.poll()
        for _ in range(min(_BACKLOG, count - len(done) - refused)):
            plain = socket.create_connection(("127.0.0.1", live.port), timeout=30)
            plain.setblocking(False)
            tls = context.wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False)
            waiting[tls.fileno()] = tls
            poll.register(tls, select.POLLOUT)
        while waiting:
            for number, _ in poll.poll(30_000):
                tls = waiting[number]
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    poll.modify(tls, select.POLLIN)
                    continue
                except OSError:  # reset, or not TLS
                    poll.unregister(tls)
                    waiting.pop(number).close()
                    refused += 1
                    continue
                poll.unregister(tls)
                done.append(waiting.pop(number))
    return done


def slowest_request(live: Live, token: str, requests: int) -> float:
    """Return the seconds that the slowest of so many requests took."""
    wire, worst = Wire(live, token), 0.0
    for _ in range(requests):
        began = time.monotonic()
        status, _ = wire.post("/v1/keys/drill/encrypt", {"plaintext": "cmVjb3Jk"})
        assert status == 200
        worst = max(worst, time.monotonic() - began)
    wire.close()
    return worst


def closed(sockets: list[ssl.SSLSocket]) -> int:
    """Return how many of them the server has closed."""
    count = 0
    for tls in sockets:
        try:
            while True:  # session tickets come first
                if not tls.recv(4096):
                    count += 1
                    break
        except ssl.SSLWantReadError:
            continue
        except (ssl.SSLError, ConnectionError):
            count += 1
    return count


def idle_drill(wanted: int = 10_000) -> Result:
    """Hold that many idle connections and some half requests, then wait until the server has let go of them all."""
    result = Result("idle_connections")
    result.runs = most_connections(wanted)
    if result.runs < wanted:
        result.notes.append(f"only {result.runs:,} connections: the limit of open files allows no more")
    with tempfile.TemporaryDirectory(prefix="keyclave-drill-") as folder:
        live = launch(Path(folder))
        sockets: list[ssl.SSLSocket] = []
        try:
            live.create_key("drill")
            token = live.token(["encrypt"], ["drill"])
            began = time.monotonic()
            sockets = connect(live, result.runs)
            half = sockets[: max(1, result.runs // 50)]
            for tls in half:
                tls.send(_HALF)
            _judge(live, token, sockets, half, began, result)
        finally:
            for tls in sockets:
                tls.close()
            live.stop()
    result.ok = result.lost == 0 and result.runs == wanted
    return result


def _judge(live: Live, token: str, sockets: list[ssl.SSLSocket], half: list[ssl.SSLSocket], began: float, result: Result) -> None:
    if len(sockets) < result.runs:
        result.lose(f"{result.runs - len(sockets)} connections were not taken")
    worst = slowest_request(live, token, 200)
    result.acknowledged = 200
    result.served_after(worst)
    if worst > _SLOWEST:
        result.lose(f"a request took {worst:.2f} s beside the idle connections")
    sent = time.monotonic()
    while closed(half) < len(half) and time.monotonic() < sent + _REQUEST + _GRACE:
        time.sleep(0.5)  # between two looks at a condition
    if closed(half) < len(half):
        result.lose(f"{len(half) - closed(half)} half requests are still waited for")
    idle = sockets[len(half) :]
    while closed(idle) < len(idle) and time.monotonic() < sent + _IDLE + _GRACE:
        time.sleep(0.5)  # between two looks at a condition
    if closed(idle) < len(idle):
        result.lose(f"{len(idle) - closed(idle)} idle connections are still open {time.monotonic() - began:.0f} s later")
    slowest_request(live, token, 10)

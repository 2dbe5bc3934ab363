"""TLS handshakes with a client certificate, as fast as several client processes make them: full ones, and resumed ones.

Each connection asks for the server's health and waits for the answer, so that a handshake counts only when it is complete on both
sides and the client holds a session to resume. The first one asks who it is: the certificate is known, resumed or not.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from bench.ours import Keyclave
from keyclave_client import Client
from keyclave_client.enrolment import enrol

CLIENTS = 4  # processes
_NAME = "spiffe://keyclave.localhost/bench/client"
_WHO = b"GET /v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_ASK = b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_GOOD = b"HTTP/1.1 200 "


@dataclass(frozen=True)
class Handshakes:
    """Per second, all clients together."""

    full: float
    resumed: float


def measure(server: Keyclave, rounds: int, seconds: float) -> Handshakes:
    """Enrol a workload, then connect again and again with its certificate. The server must run, unsealed."""
    operator = server.made["credentials"]["operator"]
    scope = {"operations": ["random"], "keys": ["*"]}
    files = str(server.home / "bench.pem"), str(server.home / "bench.key")
    with Client(server.url, operator, ca_file=server.ca_file) as client:
        client.register_workload(_NAME, scope)
        token = client.create_enrolment(_NAME).token
    with Client(server.url, token, ca_file=server.ca_file) as client:
        enrol(client, *files)
    rates: dict[bool, list[float]] = {False: [], True: []}
    with ProcessPoolExecutor(CLIENTS, mp_context=get_context("spawn")) as clients:
        for number in range(rounds + 1):
            for resume in (False, True):
                asked = [clients.submit(connect, server.port, server.ca_file, files, resume, seconds) for _ in range(CLIENTS)]
                rate = sum(one.result() for one in asked)
                if number:  # the first round starts the processes
                    rates[resume].append(rate)
    return Handshakes(median(rates[False]), median(rates[True]))


def connect(port: int, ca_file: str, files: tuple[str, str], resume: bool, seconds: float) -> float:
    """Connect as often as goes for that long; return connections per second. An answer that is not good ends it."""
    context = ssl.create_default_context(cafile=ca_file)
    context.load_cert_chain(*files)
    session: ssl.SSLSession | None = None
    made, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as tls:
                if resume and session is not None and not tls.session_reused:
                    raise RuntimeError("the server did not resume a session")
                tls.sendall(_ASK if made > 1 else _WHO)
                answer = tls.recv(4096)
                if not answer.startswith(_GOOD):
                    raise RuntimeError(f"the server answered {answer[:40]!r}")
                if resume:
                    session = tls.session
        made += 1
    return made / (time.monotonic() - began)


def main() -> None:
    """Measure on a home of its own, and print."""
    server = Keyclave(Path(sys.argv[1]), "handshakes", tls=True)
    try:
        server.start()
        server.unseal()
        print(measure(server, 3, 3))
    finally:
        server.stop()


if __name__ == "__main__":
    main()

"""The doctor's findings, each on a server that has the ailment: real listeners, not pretended answers."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from keyclave_cli.diagnosis.connection import _clock, _expiry, examine
from keyclave_cli.diagnosis.finding import Finding, Grade
from keyclave_cli.session import Connection
from tests.cli.conftest import introduce
from tests.cli.transcript import Prompt
from tests.live import Live, launch


@contextmanager
def _listener(live: Live, skew: float = 0, oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[str]:
    """Listen with the certificate of a live server, with a clock that is off or with an older TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() + skew, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A handshake that fails is what some of these tests want."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = oldest
    context.load_cert_chain(live.home / "tls/server.pem", live.home / "tls/server.key")
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)


def _findings(live: Live, url: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(Connection(url, live.ca_file, None, None), 10)}


@pytest.mark.parametrize(
    ("skew", "grade", "word"),
    [
        (0, Grade.OK, "agree"),
        (20, Grade.WARN, "ahead"),
        (-20, Grade.WARN, "behind"),
        (3600, Grade.FAIL, "ahead"),
        (-3600, Grade.FAIL, "behind"),
    ],
)
def test_a_clock_that_is_off(live: Live, skew: float, grade: Grade, word: str) -> None:
    with _listener(live, skew) as url:
        found = _findings(live, url)["clock"]
    assert found.grade is grade
    assert word in found.said


@pytest.mark.requirement("R1")
def test_a_listener_that_takes_something_older_than_tls_1_3(live: Live) -> None:
    with _listener(live, oldest=ssl.TLSVersion.TLSv1_2) as url:
        found = _findings(live, url)["tls"]
    assert found.grade is Grade.FAIL
    assert "TLSv1.2" in found.said
    assert _findings(live, live.url)["tls"].grade is Grade.OK


def test_a_certificate_of_another_authority(live: Live, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = launch(tmp_path / "other", "--development", unseal=False, another=True)
    try:
        found = _findings(other, live.url)
    finally:
        other.stop()
    assert list(found) == ["ca"]
    assert found["ca"].grade is Grade.FAIL
    assert "not trusted" in found["ca"].said


@pytest.mark.parametrize(("days", "grade"), [(400, Grade.OK), (3, Grade.WARN), (-1, Grade.WARN)])
def test_a_certificate_that_expires(days: int, grade: Grade) -> None:
    until = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + days * 86_400 + 60))
    assert _expiry({"notAfter": until}).grade is grade


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_server_without_a_time(date: str | None) -> None:
    assert _clock(date, 0, 1).grade is Grade.SKIPPED


def test_a_development_root_and_a_token_in_the_environment(prompt: Prompt, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    toy = launch(tmp_path / "toy", "--development", unseal=False)
    try:
        introduce(toy)
        place = {"KEYCLAVE_URL": toy.url, "KEYCLAVE_CA_FILE": toy.ca_file, "KEYCLAVE_TOKEN": toy.tokens["auditor"]}
        done = prompt("doctor", "--home", str(toy.home), **place)
        said = prompt("status", "--home", str(toy.home))
    finally:
        toy.stop()
    assert done.code == 0, done.text
    assert "warn     root         DEVELOPMENT ROOT" in done.text
    assert "warn     credential   it is in the environment" in done.text
    assert "disk" in done.text
    assert said.code == 0
    assert said.text.startswith("*** DEVELOPMENT ROOT")


def test_a_sealed_server_and_a_dead_credential(own_live: Live, prompt: Prompt) -> None:
    introduce(own_live)
    Path("dead").write_text("kct_" + "A" * 43)
    Path("dead").chmod(0o600)
    dead = prompt("doctor", "--profile", "operator", "--token-file", "dead", "--json")
    assert dead.code == 1
    assert {check["check"] for check in json.loads(dead.text)["checks"] if check["grade"] == "fail"} == {"credential"}
    prompt("--profile", "operator", "seal")
    sealed = prompt("--profile", "operator", "doctor")
    assert sealed.code == 1
    assert "the server is sealed, 0 of 2 shares given" in sealed.text
    assert "keyclave unseal" in sealed.text


def test_a_home_that_is_not_there(people: Prompt) -> None:
    done = people("--profile", "operator", "doctor", "--home", "nowhere")
    assert done.code == 1
    assert "there is no such home" in done.text

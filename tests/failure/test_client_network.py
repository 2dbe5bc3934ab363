"""The client against a network and servers that misbehave: what is repeated, what is not, and what never shows."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from keyclave_client import Client, errors
from keyclave_client.transport import ATTEMPTS, LONGEST_WAIT
from tests.unit.client.contract_server import Asked, ContractServer, Said, certificate, problem, serve, server_tls

TOKEN = "kct_topsecret"
KEY = {"id": "key_a", "name": "k", "spec": "aes-256", "purpose": "encrypt"}

READ: Callable[[Client], Any] = lambda c: c.get_key("k")  # noqa: E731
USE: Callable[[Client], Any] = lambda c: c.random(1)  # noqa: E731
CHANGE: Callable[[Client], Any] = lambda c: c.move("k", "rotate")  # noqa: E731
SHARE: Callable[[Client], Any] = lambda c: c.unseal("share")  # noqa: E731


@pytest.fixture
def server() -> Iterator[ContractServer]:
    with serve(lambda asked: Said(500)) as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(server: ContractServer, waits: list[float]) -> Iterator[Client]:
    with Client(server.url, TOKEN, timeout=5) as made:
        made._transport._wait = waits.append
        yield made


def after(failures: int, failure: Said, success: Any) -> Callable[[Asked], Said]:
    """Return a script that fails so many times and then succeeds."""
    left = [failure] * failures
    return lambda asked: left.pop() if left else Said(body=success)


BROKEN_OFF = Said(502, b"<html>502 Bad Gateway</html>", {"content-type": "text/html"})  # by a proxy, as a node goes away


@pytest.mark.parametrize("failure", [problem(503, "unavailable"), BROKEN_OFF, Said(hang_up=True)], ids=["503", "502", "hang up"])
@pytest.mark.parametrize("call", [READ, USE, CHANGE], ids=["read", "use", "change"])
def test_what_may_be_done_twice_is_repeated(
    server: ContractServer, client: Client, waits: list[float], failure: Said, call: Callable[[Client], Any]
) -> None:
    server.script = after(ATTEMPTS - 1, failure, {**KEY, "random": "AA=="})
    call(client)

    assert len(server.asked) == ATTEMPTS and len(waits) == ATTEMPTS - 1
    assert len({asked.headers.get("idempotency-key") for asked in server.asked}) == 1
    assert all(0 <= wait <= LONGEST_WAIT for wait in waits)


def test_a_change_is_repeated_under_one_idempotency_key(server: ContractServer, client: Client) -> None:
    server.script = after(2, Said(hang_up=True), KEY)
    CHANGE(client)
    CHANGE(client)
    keys = [asked.headers["idempotency-key"] for asked in server.asked]

    assert keys[0] == keys[1] == keys[2] != keys[3]


@pytest.mark.parametrize("failure", [problem(503, "unavailable"), BROKEN_OFF, Said(hang_up=True)], ids=["503", "502", "hang up"])
def test_a_share_is_never_sent_twice_by_itself(server: ContractServer, client: Client, failure: Said) -> None:
    server.script = lambda asked: failure
    with pytest.raises(errors.Unavailable):
        SHARE(client)

    assert len(server.asked) == 1


@pytest.mark.parametrize("call", [READ, CHANGE], ids=["read", "change"])
def test_repeating_ends(server: ContractServer, client: Client, call: Callable[[Client], Any]) -> None:
    server.script = lambda asked: problem(503, "unavailable", "the disk is full")
    with pytest.raises(errors.Unavailable, match="the disk is full"):
        call(client)

    assert len(server.asked) == ATTEMPTS


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (problem(503, "sealed"), errors.Sealed),
        (problem(429, "limit_reached"), errors.LimitReached),
        (problem(500, "broken"), errors.Broken),
        (problem(401, "unauthenticated"), errors.Unauthenticated),
        (Said(302, b"", {"location": "http://127.0.0.1:1/steal"}), errors.KeyclaveError),
    ],
    ids=["sealed", "limit", "broken", "unauthenticated", "redirect"],
)
def test_everything_else_is_said_at_once(server: ContractServer, client: Client, said: Said, kind: type[Exception]) -> None:
    server.script = lambda asked: said
    with pytest.raises(kind):
        READ(client)

    assert len(server.asked) == 1


def test_retry_after_is_kept_within_bounds(server: ContractServer, client: Client, waits: list[float]) -> None:
    for asked_for in ("1", "86400", "-5", "soon"):
        busy = problem(503, "unavailable")
        server.script = after(1, busy._replace(headers={**busy.headers, "retry-after": asked_for}), KEY)
        READ(client)

    assert waits[:2] == [1.0, LONGEST_WAIT]
    assert all(0 <= wait <= LONGEST_WAIT for wait in waits)


def test_a_refused_connection_is_repeated_and_named(waits: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else can take the port
        with Client(f"http://127.0.0.1:{taken.getsockname()[1]}", TOKEN) as client:
            client._transport._wait = waits.append
            with pytest.raises(errors.Unreachable, match="refused"):
                READ(client)
            with pytest.raises(errors.Unreachable) as caught:
                client.move("k", "rotate", idempotency_key="mine")
            with pytest.raises(errors.Unreachable):
                client.health()

    assert len(waits) == 2 * (ATTEMPTS - 1)
    assert caught.value.idempotency_key == "mine" and caught.value.retryable


def test_a_slow_server_is_not_asked_again(server: ContractServer, waits: list[float]) -> None:
    done = threading.Event()

    def slow(asked: Asked) -> Said:
        assert done.wait(30)
        return Said(body=KEY)

    server.script = slow
    with Client(server.url, TOKEN, timeout=0.05) as client:
        client._transport._wait = waits.append
        with pytest.raises(errors.Unreachable, match="timeout"):
            READ(client)
    done.set()

    assert len(server.asked) == 1 and not waits


CALLS: list[Callable[[Client], Any]] = [
    USE,
    READ,
    lambda c: c.batch("random", None, [{"bytes": 1}]),
    lambda c: list(c.list_keys()),
    lambda c: list(c.events()),
    lambda c: c.consistency(1, 2),
    lambda c: c.log_keys(),
    lambda c: c.health(),
    lambda c: c.seal(),
]
GARBAGE = [
    b"", b"<html>welcome to the hotel wifi</html>", b"null", b"[]", b"{}", b'"text"', b'{"id": 1', b"\xff\xfe", b'{"results": 5}',
    b'{"random": "not base64!"}', b'{"random": 5}', b'{"random": "AA"}', b"[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 400, 502, 503])
@pytest.mark.parametrize("content", GARBAGE)
def test_an_answer_that_is_not_keyclaves_is_one_of_our_errors(
    server: ContractServer, client: Client, content: bytes, status: int
) -> None:
    server.script = lambda asked: Said(status, content)
    for call in CALLS:
        with pytest.raises(errors.KeyclaveError):
            call(client)
    if not content.startswith(b"{"):
        with pytest.raises(errors.KeyclaveError):
            client.openapi()


@pytest.mark.requirement("P7", "R33")
@pytest.mark.parametrize("trouble", ["refused", "hang up", "timeout", "garbage", "unauthenticated", "tls"])
def test_the_token_shows_nowhere(trouble: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    done = threading.Event()

    def script(asked: Asked) -> Said:
        if trouble == "timeout":
            assert done.wait(30)
        if trouble == "hang up":
            return Said(hang_up=True)
        return problem(401, "unauthenticated") if trouble == "unauthenticated" else Said(200, b"garbage")

    tls = server_tls(certificate(tmp_path)) if trouble == "tls" else None
    with serve(script, tls) as server:
        url = "http://127.0.0.1:1" if trouble == "refused" else server.url
        client = Client(url, TOKEN, timeout=0.2)
        client._transport._wait = lambda seconds: None
        with pytest.raises(errors.KeyclaveError) as caught:
            READ(client)
        done.set()
        client.close()
    chain: list[BaseException] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__

    assert chain == [caught.value]  # nothing of the HTTP library's hangs on, and with it no request
    assert TOKEN not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
    assert TOKEN not in repr(client) + repr(client._transport)
    assert TOKEN not in caplog.text


@pytest.mark.requirement("R1")
def test_tls_needs_the_right_authority_and_version(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    tls = server_tls(pem)
    with serve(lambda asked: Said(body=KEY), tls) as server:
        with Client(server.url, TOKEN, ca_file=str(pem)) as client:
            assert READ(client).name == "k"
        with Client(server.url, TOKEN) as client, pytest.raises(errors.Unreachable, match="not trusted"):
            READ(client)
        name = server.url.replace("127.0.0.1", "localhost")
        with Client(name, TOKEN, ca_file=str(pem)) as client, pytest.raises(errors.Unreachable, match="not trusted"):
            READ(client)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with serve(lambda asked: Said(body=KEY), tls) as server:
        with Client(server.url, TOKEN, ca_file=str(pem)) as client, pytest.raises(errors.Unreachable, match=r"TLS 1\.3"):
            READ(client)
        assert not server.asked


@pytest.mark.requirement("R1")
@pytest.mark.parametrize(
    "url",
    ["http://keys.example.org", "http://127.0.0.1.example.org", "keys.example.org", "ftp://127.0.0.1", "https://", "",
     "https://token@keys.example.org", "https://keys.example.org?x=1"],
)  # fmt: skip
def test_the_token_is_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(errors.Malformed):
        Client(url, TOKEN)


def test_the_environment_does_not_redirect_key_traffic(
    server: ContractServer, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login eve password stolen\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.script = lambda asked: Said(body=KEY)
    READ(client)

    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.requirement("R33")
def test_a_token_may_change_between_calls(server: ContractServer) -> None:
    tokens = iter(["first", "second"])
    server.script = lambda asked: Said(body=KEY)
    with Client(server.url, lambda: next(tokens)) as client:
        READ(client)
        READ(client)
    with Client(server.url) as client:
        READ(client)

    assert [asked.headers.get("authorization") for asked in server.asked] == ["Bearer first", "Bearer second", None]


def test_threads_share_a_client_and_keep_connections_alive(server: ContractServer, client: Client) -> None:
    server.script = lambda asked: Said(body={**KEY, "name": asked.path.rsplit("/", 1)[1]})
    with ThreadPoolExecutor(4) as pool:
        names = [key.name for key in pool.map(client.get_key, [str(number) for number in range(100)])]

    assert names == [str(number) for number in range(100)]
    assert server.connections <= 4
    client.close()
    assert client.get_key("again").name == "again"

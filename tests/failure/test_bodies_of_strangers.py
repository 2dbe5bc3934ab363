"""Nobody makes the server hold a large body who has not said who they are: 64 KiB are read, then the credential is looked at."""

from __future__ import annotations

import pytest

from tests.live import Live
from tests.store.raw_http import Closed, Raw

pytestmark = pytest.mark.requirement("R15", "R34")
DECLARED = 8 * 1024 * 1024
SENT = 256 * 1024
PATHS = ("/v1/keys/x/encrypt", "/v1/keys", "/v1/unseal", "/v1/login/password")
DEAD = "Authorization: Bearer kct_" + "A" * 43 + "\r\n"


def head(path: str, more: str, *, chunked: bool = False) -> bytes:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {DECLARED}"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}{framing}\r\n\r\n".encode()


@pytest.mark.parametrize("more", ["", DEAD], ids=["nobody", "dead token"])
@pytest.mark.parametrize("path", PATHS)
def test_a_large_body_of_nobody_is_refused_long_before_its_end(live: Live, path: str, more: str) -> None:
    with Raw(live) as raw:
        raw.send(head(path, more) + b"x" * SENT)
        said = raw.read()  # a small part was sent, and the answer is there
        assert (said.status, said.json["code"]) == (401, "unauthenticated")
        assert said.headers["connection"] == "close"
        with pytest.raises(Closed):
            raw.read()


@pytest.mark.parametrize("more", ["", DEAD], ids=["nobody", "dead token"])
def test_what_is_answered_before_its_body_ends_is_answered_once(live: Live, more: str) -> None:
    """A second answer would be taken for that of the next request, by a proxy for that of another caller."""
    with Raw(live) as raw:
        raw.send(head("/v1/nothing", more))
        assert raw.read().status == 404  # nothing is there, whatever the body says
        raw.send(b"x" * SENT)
        with pytest.raises(Closed):
            raw.read()


def test_nor_in_pieces_nor_behind_another_request(live: Live) -> None:
    piece = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    with Raw(live) as raw:
        raw.send(head("/v1/keys", "", chunked=True) + piece * 16)
        assert raw.read().status == 401
    with Raw(live) as raw:
        raw.send(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n" + head("/v1/keys/x/encrypt", "") + b"x" * SENT)
        assert raw.read().status in (200, 401)  # whichever the connection was closed for first


def test_whoever_is_known_sends_as_much_as_before(live: Live) -> None:
    live.create_key("large-bodies")
    token = live.token(["encrypt"], ["large-bodies"])
    for size in (60_000, 3_000_000):
        answer = live.post("/v1/keys/large-bodies/encrypt", token, {"plaintext": "A" * size})
        assert answer.status_code in (200, 413), answer.text
        assert answer.json().get("code") in (None, "too_large")
    small = live.post("/v1/login/password", body={"principal": "x", "password": "y" * 200, "tenant": ""})
    assert small.json()["code"] == "unauthenticated"


@pytest.mark.parametrize("path", ["/v1/unseal", "/v1/login/password", "/v1/login/passkey/begin", "/v1/node-unseal"])
def test_a_name_that_is_there_twice_is_refused_also_outside_the_operations(live: Live, path: str) -> None:
    """Whoever stands in front, and counts attempts by name, would read the one, and the server the other."""
    names = {
        "/v1/unseal": ("share",), "/v1/login/password": ("principal", "password"), "/v1/login/passkey/begin": ("principal",),
        "/v1/node-unseal": ("node", "nonce", "public"),
    }[path]  # fmt: skip
    written = [f'"{name}":"a"' for name in (*names, names[0])]
    twice = ("{" + ",".join(written) + "}").encode()
    answer = live.http.post(path, content=twice, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("depth", [5_000, 12_000])
def test_a_login_that_is_nested_too_deeply_is_a_bad_request_and_no_failure(live: Live, depth: int) -> None:
    deep = b'{"ceremony":"a","credential":{"id":"a","x":' + b"[" * depth + b"]" * depth + b"}}"
    answer = live.http.post("/v1/login/passkey/finish", content=deep, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")

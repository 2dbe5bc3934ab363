"""A provider that lies, and tokens that were made to be believed: nobody is let in, and the server goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.live import Live
from tests.protocols.oidc.evil import (
    CLIENT,
    Evil,
    half_hash,
    signed,
    unsigned,
    with_broken_signature,
    with_key_in_header,
    with_other_key,
    with_public_key_as_secret,
)
from tests.protocols.oidc.house import Browser, House, launch_with, section

pytestmark = pytest.mark.requirement("R30")
NOW = int(time.time())
_HOURS = 3600


@dataclass
class Place:
    """A server that believes an evil provider."""

    live: Live
    evil: Evil

    def browser(self) -> Browser:
        return Browser(f"https://localhost:{self.live.port}", self.live.ca_file)

    def sign_on(self, browser: Browser | None = None) -> tuple[int, Browser, str]:
        """Sign on as the victim; return status, browser and page."""
        browser = browser or self.browser()
        begun = browser.get("/v1/sso/evil/start")
        if begun.status_code != 303:
            return begun.status_code, browser, begun.text
        address = str(begun.headers["location"])
        from tests.protocols.oidc.house import query_of

        state = query_of(address)["state"]
        page = browser.get("/v1/sso/evil/callback", params={"code": self.evil.code_for(address), "state": state})
        return page.status_code, browser, page.text

    def is_well(self) -> None:
        """The honest way still works, and nothing went wrong inside."""
        self.evil.behave()
        assert self.sign_on()[0] == 200
        log = (self.live.home.parent / f"{self.live.home.name}.server.log").read_text()
        assert "Traceback" not in log
        assert " ERROR " not in log


def open_place(folder: Any, **more: Any) -> Place:
    from pathlib import Path

    from tests.live import free_port

    port = free_port()
    said = {"client_id": CLIENT, "scopes": ["openid"], "acr_values": [], **more}
    live = launch_with(Path(str(folder)), section("evil", f"https://127.0.0.1:{port}", **said), rules="")
    evil = Evil(live.home / "tls", port)
    evil.start()
    place = Place(live, evil)
    House(live, None).invite("oidc:evil:victim")  # type: ignore[arg-type]
    assert place.sign_on()[0] == 200  # so every refusal that follows is for the lie alone
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = open_place(tmp_path_factory.mktemp("evil"))
    yield made
    made.evil.stop()
    made.live.stop()


@pytest.fixture
def own_place(tmp_path: Any) -> Iterator[Place]:
    """One whose provider was asked for nothing but one login."""
    made = open_place(tmp_path)
    yield made
    made.evil.stop()
    made.live.stop()


CLAIMS: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "another"},
    "us among others without azp": {"aud": [CLIENT, "another"]},
    "azp of another": {"aud": [CLIENT, "another"], "azp": "another"},
    "azp of another alone": {"azp": "another"},
    "no audience": {"aud": None},
    "an audience that is no text": {"aud": [CLIENT, 7], "azp": CLIENT},
    "another issuer": {"iss": "https://elsewhere.example"},
    "an issuer with a slash more": {"iss": "{issuer}/"},
    "no issuer": {"iss": None},
    "expired": {"exp": NOW - 120, "iat": NOW - 300},
    "no end": {"exp": None},
    "an end that is text": {"exp": str(NOW + 300)},
    "an end that is true": {"exp": True},
    "an end in a thousand years": {"exp": NOW + 1000 * 365 * 86_400},
    "a life of a month": {"exp": NOW + 30 * 86_400},
    "from the future": {"iat": NOW + _HOURS, "exp": NOW + 2 * _HOURS},
    "not yet": {"nbf": NOW + _HOURS},
    "issued an hour ago": {"iat": NOW - _HOURS, "exp": NOW + _HOURS},
    "no beginning": {"iat": None},
    "another nonce": {"nonce": "x" * 43},
    "no nonce": {"nonce": None},
    "a nonce that is a list": {"nonce": ["x"]},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject with a line break": {"sub": "victim\n"},
    "a subject too long": {"sub": "v" * 256},
    "no time of proof": {"auth_time": None},
    "a proof of long ago": {"auth_time": NOW - 2 * _HOURS},
    "a proof of tomorrow": {"auth_time": NOW + 86_400},
    "the hash of another access token": {"at_hash": half_hash("another")},
    "a hash that is no text": {"at_hash": 1},
}


@pytest.mark.parametrize("lie", CLAIMS)
def test_claims_that_do_not_hold_let_nobody_in(place: Place, lie: str) -> None:
    place.evil.behave()
    place.evil.claims = {
        name: value.replace("{issuer}", place.evil.issuer) if isinstance(value, str) else value
        for name, value in CLAIMS[lie].items()
    }
    status, browser, page = place.sign_on()
    assert status == 403, page
    assert not browser.token


@pytest.mark.parametrize(
    "truth",
    [{"aud": [CLIENT]}, {"aud": [CLIENT, "another"], "azp": CLIENT}, {"azp": CLIENT}, {"at_hash": half_hash("at")},
     {"nbf": NOW - 10}, {"more": {"nested": [1, 2, 3]}}],
)  # fmt: skip
def test_claims_that_hold_are_not_refused(place: Place, truth: dict[str, Any]) -> None:
    place.evil.behave()
    place.evil.claims = truth
    assert place.sign_on()[0] == 200


SIGNERS: dict[str, Any] = {
    "none": lambda _evil: unsigned,
    "the public key as an HMAC secret": lambda evil: with_public_key_as_secret(evil.key),
    "a secret of its own": lambda _evil: lambda header, claims: signed(b"k" * 32, {**header, "alg": "HS256"}, claims),
    "a key brought along": lambda _evil: with_key_in_header("jwk"),
    "a key pointed to": lambda _evil: with_key_in_header("jku"),
    "a chain brought along": lambda _evil: with_key_in_header("x5c"),
    "a chain pointed to": lambda _evil: with_key_in_header("x5u"),
    "another key of the same name": lambda _evil: with_other_key,
    "another's signature": lambda evil: with_broken_signature(evil.key),
    "a hash that is not on the list": lambda evil: lambda header, claims: signed(evil.key, {**header, "alg": "RS512"}, claims),
    "another algorithm of the same key": lambda evil: lambda header, claims: signed(evil.key, {**header, "alg": "PS384"}, claims),
}


@pytest.mark.parametrize("lie", SIGNERS)
def test_signatures_that_do_not_hold_let_nobody_in(place: Place, lie: str) -> None:
    place.evil.behave()
    place.evil.sign = SIGNERS[lie](place.evil)
    status, browser, page = place.sign_on()
    assert status == 403, page
    assert not browser.token


HEADERS: dict[str, dict[str, Any]] = {
    "a key of a name that leads out of the folder": {"kid": "../../good"},
    "a key id that is a list": {"kid": ["good"]},
    "a type for something else": {"typ": "logout+jwt"},
    "an access token": {"typ": "at+jwt"},
    "a type that is no text": {"typ": 1},
    "an extension": {"crit": ["exp"], "exp": NOW + 60},
    "an unencoded payload": {"b64": False, "crit": ["b64"]},
    "a header nobody knows": {"trust": "me"},
    "an encrypted one's": {"enc": "A256GCM"},
}


@pytest.mark.parametrize("lie", HEADERS)
def test_headers_that_ask_for_something_else_let_nobody_in(place: Place, lie: str) -> None:
    place.evil.behave()
    place.evil.header = HEADERS[lie]
    status, browser, page = place.sign_on()
    assert status == 403, page
    assert not browser.token


TOKENS: dict[str, Any] = {
    "no token": {"id_token": None}, "a number": {"id_token": 7}, "no type": {"token_type": None}, "a mac type": {"token_type": "mac"},
}  # fmt: skip


@pytest.mark.parametrize("lie", TOKENS)
def test_answers_without_a_token_let_nobody_in(place: Place, lie: str) -> None:
    place.evil.behave()
    place.evil.tokens = TOKENS[lie]
    status, browser, _ = place.sign_on()
    assert status == 503
    assert not browser.token


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c.d", "..", "a b.c.d", "é.b.c", "x" * 60_000, f"{'e30'}.{'e30'}.AA", "e31.e30.AA", "W10.W10.AA"]
)
def test_texts_that_are_no_token_let_nobody_in(place: Place, token: str) -> None:
    place.evil.behave()
    place.evil.tokens = {"id_token": token}
    assert place.sign_on()[0] == 403


def drip(handler: Any) -> None:
    """Answer one byte at a time, for ever."""
    handler.send_response(200)
    handler.send_header("content-length", "1000000")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.2)  # the attack itself
    except OSError:
        pass


def pour(handler: Any) -> None:
    """Answer without an end."""
    handler.send_response(200)
    handler.send_header("connection", "close")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"[" * 65_536)
    except OSError:
        pass


def hang_up(handler: Any) -> None:
    """Close in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("content-length", "100")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


ANSWERS: dict[str, Any] = {
    "a fault": (500, b"{}"), "a redirect": (302, b""), "no JSON": (200, b"<html>"), "a list": (200, b"[]"),
    "deep JSON": (200, b"[" * 60_000), "a name twice": (200, b'{"id_token":"a","id_token":"b"}'), "no end": pour, "half": hang_up,
}  # fmt: skip


@pytest.mark.parametrize("lie", ANSWERS)
def test_a_token_endpoint_that_misbehaves_lets_nobody_in(place: Place, lie: str) -> None:
    place.evil.behave()
    place.evil.answers = {"/token": ANSWERS[lie]}
    status, browser, _ = place.sign_on()
    assert status == 503
    assert not browser.token
    assert "/elsewhere" not in place.evil.asked  # no redirect was followed


def test_a_token_endpoint_that_drips_is_given_up_and_holds_up_nobody(place: Place) -> None:
    place.evil.behave()
    place.evil.answers = {"/token": drip}
    began = time.monotonic()
    assert place.sign_on()[0] == 503
    assert time.monotonic() - began < 20


def test_the_server_is_well_after_all_that(place: Place) -> None:
    place.is_well()


def test_a_client_error_of_the_token_endpoint_is_a_refusal(place: Place) -> None:
    place.evil.behave()
    place.evil.answers = {"/token": (400, b'{"error":"invalid_grant","error_description":"<script>"}')}
    status, _, page = place.sign_on()
    assert status == 403
    assert "invalid_grant" not in page
    assert "<script>" not in page


def test_our_secret_goes_into_one_header_alone(place: Place) -> None:
    place.evil.behave()
    assert place.sign_on()[0] == 200
    form, headers = place.evil.forms[-1], place.evil.headers[-1]
    assert headers["authorization"].startswith("Basic ")
    assert "client_secret" not in form
    assert len(form["code_verifier"][0]) == 43
    assert form["redirect_uri"] == [f"https://localhost:{place.live.port}/v1/sso/evil/callback"]


# ---- keys ----------------------------------------------------------------------------------------------------------------------
def test_an_unknown_key_makes_us_ask_again_but_not_as_often_as_anybody_likes(own_place: Place) -> None:
    evil = own_place.evil
    before = evil.asked.count("/keys")
    evil.header = {"kid": "nobody's"}
    for _ in range(5):
        assert own_place.sign_on()[0] == 403
    assert evil.asked.count("/keys") == before + 1


def test_a_key_that_was_rotated_is_believed_and_the_old_one_is_not(own_place: Place) -> None:
    evil = own_place.evil
    old, evil.key = evil.key, RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
    evil.header = {"kid": "second"}
    assert own_place.sign_on()[0] == 200
    evil.header = {}
    evil.sign = lambda header, claims: signed(old, header, claims)
    assert own_place.sign_on()[0] == 403


KEYS: dict[str, Any] = {
    "a secret among the keys": lambda evil: [dict(OctKey.import_key(b"k" * 32, {"kid": "good"}).as_dict(private=True))],
    "the key for encryption": lambda evil: [{**evil.key.as_dict(private=False), "use": "enc"}],
    "the key for another algorithm": lambda evil: [{**evil.key.as_dict(private=False), "alg": "RS512"}],
    "two keys of one name": lambda evil: [dict(evil.key.as_dict(private=False))] * 2,
    "another kind of that name": lambda evil: [dict(ECKey.generate_key("P-256", {"kid": "good"}).as_dict(private=False))],
    "a short key": lambda evil: [{"kty": "RSA", "n": "u" * 171, "e": "AQAB", "kid": "good"}],
    "no key": lambda evil: [],
    "far too many": lambda evil: [{**evil.key.as_dict(private=False), "kid": f"k{i}"} for i in range(65)],
    "no keys at all": lambda evil: [1, None, "x", {"kty": 1}],
}


@pytest.mark.parametrize("lie", KEYS)
def test_keys_that_cannot_be_meant_let_nobody_in(tmp_path: Any, lie: str) -> None:
    from keyclave.core.errors import Refused
    from keyclave.identity.oidc import Provider
    from keyclave.identity.oidc_tokens import read_id_token, read_keys

    evil = Evil(tmp_path)
    provider = Provider(
        name="evil", label="", issuer=evil.issuer, client_id=CLIENT, redirect_uri="https://x/v1/sso/evil/callback"
    )
    token, now = evil.token("n"), int(time.time())
    honest = read_keys(json.dumps({"keys": [dict(evil.key.as_dict(private=False))]}).encode())
    assert honest is not None
    assert read_id_token(token, provider, honest, nonce="n", access_token="at", now=now).subject == "victim"
    keys = read_keys(json.dumps({"keys": KEYS[lie](evil)}).encode())
    if keys:
        with pytest.raises(Refused):
            read_id_token(token, provider, keys, nonce="n", access_token="at", now=now)


# ---- the provider's document -----------------------------------------------------------------------------------------------------
DOCUMENTS: dict[str, dict[str, Any]] = {
    "another issuer": {"issuer": "https://elsewhere.example"}, "keys elsewhere": {"jwks_uri": "https://elsewhere.example/keys"},
    "tokens inside the house": {"token_endpoint": "https://10.0.0.1/token"}, "a file": {"jwks_uri": "file:///etc/passwd"},
    "plain": {"token_endpoint": "http://127.0.0.1:1/token"}, "another port": {"authorization_endpoint": "https://127.0.0.1:1/auth"},
    "a name before it": {"token_endpoint": "https://127.0.0.1@elsewhere.example/token"}, "no PKCE": {"code_challenge_methods_supported": ["plain"]},
    "no endpoint": {"token_endpoint": None}, "an endpoint that is a list": {"jwks_uri": ["x"]},
}  # fmt: skip


@pytest.mark.parametrize("lie", DOCUMENTS)
def test_a_document_that_leads_elsewhere_is_not_followed(tmp_path: Any, lie: str) -> None:
    from keyclave.core.errors import Unavailable
    from keyclave.identity.oidc import Provider, read_discovery

    evil = Evil(tmp_path)
    provider = Provider(
        name="evil", label="", issuer=evil.issuer, client_id=CLIENT, redirect_uri="https://x/v1/sso/evil/callback"
    )
    assert read_discovery(json.dumps(evil.document()).encode(), provider, development=False).jwks_uri == f"{evil.issuer}/keys"
    with pytest.raises(Unavailable):
        read_discovery(json.dumps({**evil.document(), **DOCUMENTS[lie]}).encode(), provider, development=False)


def test_a_silent_provider_is_not_asked_by_everybody_in_turn(own_place: Place) -> None:
    own_place.live.kill()
    own_place.live.restart(unseal=False)
    evil, asked = own_place.evil, own_place.evil.asked
    evil.answers = {"/.well-known/openid-configuration": (500, b"{}")}
    del asked[:]
    assert [own_place.browser().get("/v1/sso/evil/start").status_code for _ in range(5)] == [503] * 5
    assert asked == ["/.well-known/openid-configuration"]


def test_without_the_provider_nobody_gets_in_and_everything_else_goes_on(own_place: Place) -> None:
    own_place.evil.stop()
    own_place.live.kill()
    own_place.live.restart(unseal=False)
    assert own_place.sign_on()[0] == 503
    assert own_place.live.get("/v1/health").status_code == 200
    assert own_place.live.get("/v1/whoami", "operator").status_code == 200

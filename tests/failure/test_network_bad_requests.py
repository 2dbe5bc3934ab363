"""Requests that are well framed and wrong inside: each gets one clear answer of ours, by its first fault, and nothing is done.

No answer repeats what was sent: it may be a secret in the wrong place.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.live import Live, launch

CANARY = "CANARY-7f3a"
KIB64 = 64 * 1024


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


TEXT = b64(b"record")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = launch(tmp_path_factory.mktemp("bad"))
    live.create_key("k")
    live.create_key("mac", spec="hmac-sha-256", purpose="mac")
    live.create_key("sig", spec="ecdsa-p256", purpose="sign")
    live.create_key("hidden")
    live.tokens["app"] = live.token(
        ["encrypt", "decrypt", "re-encrypt", "data-key", "wrap", "unwrap", "mac", "verify-mac", "sign", "verify", "random"],
        ["k", "mac", "sig"],
    )
    yield live
    live.stop()


def send(live: Live, path: str, body: Any, who: str = "app") -> httpx.Response:
    if isinstance(body, bytes):
        return live.request("POST", path, who, content=body, headers={"content-type": "application/json"})
    return live.post(path, who, body)


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """Check the form of a refusal and return its sentence."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:keyclave:error:{code}"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["hint"]
    assert CANARY not in answer.text
    return str(problem["detail"])


# ---- sizes ----------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R14")
@pytest.mark.parametrize(
    ("path", "field", "limit"),
    [
        ("/v1/keys/k/encrypt", "plaintext", KIB64),
        ("/v1/keys/mac/mac", "message", KIB64),
        ("/v1/keys/sig/sign", "message", KIB64),
        ("/v1/keys/k/wrap", "material", 8192),
    ],
)
def test_data_up_to_the_limit_is_taken_and_one_byte_more_is_not(server: Live, path: str, field: str, limit: int) -> None:
    assert send(server, path, {field: b64(bytes(limit))}).status_code == 200
    assert str(limit) in refused(send(server, path, {field: b64(bytes(limit + 1))}), 413, "too_large")
    refused(send(server, path, {field: b64(bytes(4 * limit))}), 413, "too_large")


@pytest.mark.requirement("R14")
def test_a_batch_has_one_to_a_thousand_items(server: Live) -> None:
    items = [{"plaintext": TEXT}] * 1000
    assert len(send(server, "/v1/keys/k/encrypt/batch", {"items": items}).json()["results"]) == 1000
    for wrong in ([], [*items, items[0]], items * 5):
        answer = send(server, "/v1/keys/k/encrypt/batch", {"items": wrong})
        assert answer.status_code in (400, 413)
        refused(answer, answer.status_code, answer.json()["code"])


@pytest.mark.requirement("R14")
def test_one_bad_item_harms_no_other(server: Live) -> None:
    items = [{"plaintext": TEXT}, {"plaintext": "not base64!"}, {"plaintext": b64(bytes(KIB64 + 1))}, {"plaintext": TEXT}]
    results = send(server, "/v1/keys/k/encrypt/batch", {"items": items}).json()["results"]
    assert ["ciphertext" in results[0], results[1]["error"]["code"], results[2]["error"]["code"], "ciphertext" in results[3]] == [
        True, "malformed", "too_large", True,
    ]  # fmt: skip


@pytest.mark.requirement("P1", "P8")
def test_a_batch_with_a_thousand_long_plain_values_is_on_record_whole_and_harms_nobody(server: Live) -> None:
    """`purpose` is shown in the log as it is: a thousand of the longest are more than one event may hold."""
    start = server.get("/v1/status").json()["log"]["size"]
    purposes = [f"{n:04}" + "\U0001f3e5" * 60 for n in range(1000)]
    items = [{"plaintext": TEXT, "context": {"purpose": p}} for p in purposes]
    answer = send(server, "/v1/keys/k/encrypt/batch", {"items": items})
    assert answer.status_code == 200, answer.text[:300]
    assert len(answer.json()["results"]) == 1000
    events = server.get(f"/v1/audit/events?from={start}&limit=100&operation=encrypt", "auditor").json()["events"]
    recorded = [value for event in events for value in event["context"]["purpose"]]
    assert sorted(set(recorded)) == sorted("p:" + p for p in purposes)
    assert len(events) > 1


CONTEXTS: dict[str, tuple[Any, int, str]] = {
    "33 entries": ({f"n{n}": "v" for n in range(33)}, 400, "malformed"),
    "a long name": ({"n" * 129: "v"}, 400, "malformed"),
    "a long value": ({"n": "v" * 1025}, 413, "too_large"),
    "too much in all": ({f"n{n}": "v" * 1000 for n in range(9)}, 413, "too_large"),
    "an empty name": ({"": "v"}, 400, "malformed"),
    "a space in a name": ({"a b": "v"}, 400, "malformed"),
    "a name that is not ASCII": ({"ä": "v"}, 400, "malformed"),
    "a control character": ({"n": "a\u0000b"}, 400, "malformed"),
    "an escape": ({"n": "\u001b[31m"}, 400, "malformed"),
    "half a surrogate": (b'{"plaintext":"cmVjb3Jk","context":{"n":"\\ud800"}}', 400, "malformed"),
    "a number": ({"n": 1}, 400, "malformed"),
    "null": ({"n": None}, 400, "malformed"),
    "nested": ({"n": {"a": "b"}}, 400, "malformed"),
    "a list": ([["n", "v"]], 400, "malformed"),
}


@pytest.mark.requirement("R29")
@pytest.mark.parametrize("what", CONTEXTS)
def test_a_context_outside_its_form_is_refused(server: Live, what: str) -> None:
    context, status, code = CONTEXTS[what]
    body = context if isinstance(context, bytes) else {"plaintext": TEXT, "context": context}
    answer = send(server, "/v1/keys/k/encrypt", body)
    assert (answer.status_code, answer.json()["code"]) in ((status, code), (413, "too_large"))
    refused(answer, answer.status_code, answer.json()["code"])


def test_a_context_at_its_limits_is_taken(server: Live) -> None:
    for context in ({f"n{n}": "v" for n in range(32)}, {"n" * 128: "v"}, {"n": "v" * 1024}, {"n": "", "~!": "ü \U0001f3e5"}):
        made = send(server, "/v1/keys/k/encrypt", {"plaintext": TEXT, "context": context}).json()
        opened = send(server, "/v1/keys/k/decrypt", {"ciphertext": made["ciphertext"], "context": context})
        assert opened.json()["plaintext"] == TEXT


# ---- JSON and base64 ------------------------------------------------------------------------------------------------------
BODIES = {
    "not JSON": b"{" + CANARY.encode(),
    "cut off": b'{"plaintext":"' + CANARY.encode(),
    "an array": b'["' + CANARY.encode() + b'"]',
    "a string": b'"' + CANARY.encode() + b'"',
    "null": b"null",
    "a number": b"17",
    "two documents": b'{"plaintext":"cmVjb3Jk"}{"plaintext":"cmVjb3Jk"}',
    "something behind it": b'{"plaintext":"cmVjb3Jk"} x',
    "a wrong type": b'{"plaintext":17}',
    "an unknown field": b'{"plaintext":"cmVjb3Jk","plain_text":"' + CANARY.encode() + b'"}',
    "a misspelt context": b'{"plaintext":"cmVjb3Jk","contxt":{"patient":"' + CANARY.encode() + b'"}}',
    "nothing": b"",
    "NaN": b'{"plaintext":NaN}',
    "a byte order mark": b'\xef\xbb\xbf{"plaintext":"cmVjb3Jk"}',
    "not UTF-8": b'{"plaintext":"\xff\xfe"}',
    "deep": b'{"plaintext":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a lone quote": b'{"plaintext":"\\"}',
    "control characters": b'{"plaintext":"a\nb"}',
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_not_the_operations_json_is_refused(server: Live, what: str) -> None:
    refused(send(server, "/v1/keys/k/encrypt", BODIES[what]), 400, "malformed")


BASE64 = {
    "not base64": CANARY + "!",
    "URL alphabet": "-_-_",
    "no padding": "cmVjb3Jk" + "cg",
    "too much padding": "cmVjb3Jk====",
    "padding inside": "cmVj=b3Jk",
    "a line break": "cmVj\nb3Jk",
    "a space": "cmVj b3Jk",
    "one character": "c",
    "not ASCII": "cmVjb3Jü",
}


@pytest.mark.parametrize("what", BASE64)
def test_base64_in_another_spelling_is_refused(server: Live, what: str) -> None:
    body = json.dumps({"plaintext": BASE64[what]}).encode()
    refused(send(server, "/v1/keys/k/encrypt", body), 400, "malformed")


def test_bytes_have_one_spelling(server: Live) -> None:
    """The last character before the padding has spare bits. If they were not looked at, one ciphertext would have many texts."""
    sealed = send(server, "/v1/keys/k/encrypt", {"plaintext": b64(bytes(8))}).json()["ciphertext"]
    assert sealed.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twisted = sealed[:-3] + alphabet[alphabet.index(sealed[-3]) ^ 1] + "=="
    refused(send(server, "/v1/keys/k/decrypt", {"ciphertext": twisted}), 400, "malformed")
    assert send(server, "/v1/keys/k/decrypt", {"ciphertext": sealed}).status_code == 200


# ---- keys, states, ciphertexts --------------------------------------------------------------------------------------------
def answer_without_event(answer: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "event"}


@pytest.mark.requirement("R29")
@pytest.mark.parametrize("verb", ["encrypt", "decrypt", "data-key", "sign"])
def test_a_key_that_is_not_there_and_one_that_is_forbidden_get_the_same_answer(server: Live, verb: str) -> None:
    body = {"encrypt": {"plaintext": TEXT}, "decrypt": {"ciphertext": TEXT}, "data-key": {}, "sign": {"message": TEXT}}[verb]
    other = server.create_key(f"other-{verb}")["id"]
    answers = [
        send(server, f"/v1/keys/{ref}/{verb}", body) for ref in ("hidden", "absent", other, "key_" + "a" * 26, "%00", "..%2f..")
    ]
    for answer in answers:
        refused(answer, 404, "unknown")
    assert all(answer_without_event(a) == answer_without_event(answers[0]) for a in answers)


@pytest.mark.requirement("R12")
def test_a_key_is_for_one_purpose(server: Live) -> None:
    for key, verb, body in (
        ("mac", "encrypt", {"plaintext": TEXT}),
        ("sig", "encrypt", {"plaintext": TEXT}),
        ("k", "sign", {"message": TEXT}),
        ("k", "mac", {"message": TEXT}),
        ("sig", "mac", {"message": TEXT}),
        ("mac", "data-key", {}),
    ):
        refused(send(server, f"/v1/keys/{key}/{verb}", body), 409, "wrong_state")


@pytest.mark.requirement("R11")
def test_every_ciphertext_that_is_not_one_of_the_key_gets_the_same_answer(server: Live) -> None:
    context = {"patient": "p-1"}
    sealed = base64.b64decode(
        send(server, "/v1/keys/k/encrypt", {"plaintext": b64(bytes(40)), "context": context}).json()["ciphertext"]
    )
    server.create_key("stranger")
    stranger = server.token(["encrypt"], ["stranger"])
    foreign = base64.b64decode(server.post("/v1/keys/stranger/encrypt", stranger, {"plaintext": TEXT}).json()["ciphertext"])
    wrapped = base64.b64decode(send(server, "/v1/keys/k/data-key", {"context": context}).json()["wrapped"])
    bad = [sealed[:n] for n in range(len(sealed))] + [
        sealed + b"\0",
        foreign,
        wrapped,
        bytes(len(sealed)),
        b"KC",
        foreign[:85] + sealed[85:],
    ]
    bad += [sealed[:at] + bytes([sealed[at] ^ (1 << at % 8)]) + sealed[at + 1 :] for at in range(len(sealed))]
    items = [{"ciphertext": b64(one), "context": context} for one in bad]
    results = send(server, "/v1/keys/k/decrypt/batch", {"items": items}).json()["results"]
    assert {json.dumps(r, sort_keys=True) for r in results} == {json.dumps(results[0], sort_keys=True)}
    assert results[0]["error"]["code"] == "undecipherable"
    for wrong in ({}, {"patient": "p-2"}, {"patient": "p-1", "more": ""}, {"Patient": "p-1"}):
        refused(send(server, "/v1/keys/k/decrypt", {"ciphertext": b64(sealed), "context": wrong}), 400, "undecipherable")
    assert send(server, "/v1/keys/k/decrypt", {"ciphertext": b64(sealed), "context": context}).status_code == 200


@pytest.mark.requirement("R11")
def test_a_ciphertext_of_another_tenant_opens_nowhere(server: Live) -> None:
    made = server.post("/v1/tenants", "custodian", {"name": "other-clinic"})
    assert made.status_code == 201, made.text
    theirs = {c["role"]: c["token"] for c in made.json()["credentials"]}
    server.post("/v1/keys", theirs["custodian"], {"name": "k", "owner": "o"})
    scope = {"operations": ["encrypt", "decrypt"], "keys": ["k"]}
    issued = server.post(
        "/v1/credentials",
        theirs["operator"],
        {"principal": "their-app", "role": "application", "ttl_seconds": 600, "scope": scope},
    )
    token = issued.json()["token"]
    sealed = server.post("/v1/keys/k/encrypt", token, {"plaintext": TEXT}).json()
    refused(send(server, "/v1/keys/k/decrypt", {"ciphertext": sealed["ciphertext"]}), 400, "undecipherable")
    refused(send(server, f"/v1/keys/{sealed['key']}/decrypt", {"ciphertext": sealed["ciphertext"]}), 404, "unknown")
    assert server.post("/v1/keys/k/decrypt", token, {"ciphertext": sealed["ciphertext"]}).json()["plaintext"] == TEXT
    assert server.get("/v1/audit/receipts/" + sealed["event"], "auditor").status_code == 404


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("state", ["pre-active", "suspended", "deactivated", "compromised", "archived"])
def test_a_key_in_the_wrong_state_says_which(server: Live, state: str) -> None:
    name = "state-" + state
    server.create_key(name, activate=state != "pre-active")
    token = server.token(["encrypt"], [name])
    moves = {
        "suspended": ["suspend"],
        "deactivated": ["deactivate"],
        "compromised": ["compromise"],
        "archived": ["deactivate", "archive"],
    }
    for move in moves.get(state, []):
        who = "custodian" if move == "archive" else "operator"
        assert server.post(f"/v1/keys/{name}/{move}", who, {"reason": "drill"}).status_code == 200
    answer = server.post(f"/v1/keys/{name}/encrypt", token, {"plaintext": TEXT})
    detail = refused(answer, 409, "wrong_state")
    assert state in detail or "primary" in detail


def test_what_is_refused_is_on_record_with_its_code(server: Live) -> None:
    start = server.get("/v1/status").json()["log"]["size"]
    expected = []
    for path, body, status, code in (
        ("/v1/keys/k/encrypt", {"plaintext": "!"}, 400, "malformed"),
        ("/v1/keys/k/encrypt", {"plaintext": b64(bytes(KIB64 + 1))}, 413, "too_large"),
        ("/v1/keys/absent/encrypt", {"plaintext": TEXT}, 404, "unknown"),
        ("/v1/keys/mac/encrypt", {"plaintext": TEXT}, 409, "wrong_state"),
        ("/v1/keys/k/rotate", {}, 403, "refused"),
        ("/v1/keys/k/decrypt", {"ciphertext": TEXT}, 400, "undecipherable"),
    ):
        answer = send(server, path, body)
        refused(answer, status, code)
        expected.append((answer.json()["event"], code))
    events = server.get(f"/v1/audit/events?from={start}&limit=100", "auditor").json()["events"]
    assert [(e["id"], e["outcome"]) for e in events if e["outcome"] != "ok"] == expected


@pytest.mark.parametrize("token", ["", "kct_", "kct_" + "A" * 43, "x" * 129, "Bearer", "kct_ä"], ids=repr)
def test_who_is_not_known_gets_one_answer(server: Live, token: str) -> None:
    headers = {b"authorization": b"Bearer " + token.encode() if token else b"Bearer"}
    for body in (b'{"plaintext":"cmVjb3Jk"}', b"nonsense " + CANARY.encode()):
        answer = server.http.request("POST", "/v1/keys/k/encrypt", headers=headers, content=body)
        refused(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="keyclave"'

"""Forbidden and unknown are one answer: whoever may not use a key cannot learn that it exists, nor whose a ciphertext is."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from keyclave.operations.table import OPERATIONS
from keyclave.policy.duties import SCOPED
from tests.live import Live
from tests.protocols.every import b64

ON_KEY = [op for op in OPERATIONS if op.on_key]
FOR_APPLICATIONS = [op for op in ON_KEY if op.name in SCOPED]

# A well-formed request for each, so that the key is what it is refused for.
BODIES: dict[str, dict[str, Any]] = {
    "encrypt": {"plaintext": b64(b"x")},
    "decrypt": {"ciphertext": b64(bytes(120))},
    "re-encrypt": {"ciphertext": b64(bytes(120))},
    "data-key": {},
    "data-key-pair": {"spec": "ed25519"},
    "wrap": {"material": b64(bytes(32))},
    "unwrap": {"wrapped": b64(bytes(120))},
    "sign": {"message": b64(b"m")},
    "verify": {"message": b64(b"m"), "signature": b64(bytes(64))},
    "mac": {"message": b64(b"m")},
    "verify-mac": {"message": b64(b"m"), "mac": b64(bytes(32))},
    "open": {"ciphertext": b64(bytes(384))},
    "derive-shared-secret": {"peer_public_key": "x", "label": "l"},
    "encapsulate": {},
    "decapsulate": {"ciphertext": b64(bytes(1088))},
    "PATCH": {"owner": "somebody"},
    "schedule-destruction": {"version": 1, "days": 30, "reason": "r"},
    "rotate": {"reason": "r"},
}


def ask(live: Live, op: Any, ref: str, token: str) -> httpx.Response:
    """Send a well-formed request of `op` for the key `ref`."""
    path = op.path.replace("{key}", ref)
    if op.method == "GET":
        return live.get(path, token)
    verb = op.method if op.method == "PATCH" else path.removesuffix("/batch").rpartition("/")[2]
    body = BODIES.get(verb, {"version": 1, "reason": "r"})
    return live.request(op.method, path, token, json={"items": [body, body]} if op.batch else body)


def bare(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return everything of an answer but the event's id, and what follows from its length and from the time."""
    event = str(answer.json()["event"]).encode()
    assert answer.content.count(event) == 1
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.status_code, answer.content.replace(event, b"EVENT"), headers


@pytest.fixture(scope="module")
def stranger(live: Live) -> dict[str, str]:
    """Return refs of keys that the token `token` does not reach: by name, by id, of another tenant, and some that never were."""
    ours = live.create_key("secret-project")
    live.create_key("within-reach")
    made = live.post("/v1/tenants", "custodian", {"name": "refusals"}).json()
    custodian = next(c["token"] for c in made["credentials"] if c["role"] == "custodian")
    theirs = live.post("/v1/keys", custodian, {"name": "theirs", "owner": "o"}).json()
    return {
        "token": live.token(sorted(SCOPED), ["within-reach"]),
        "narrow": live.token(["random"], ["*"]),
        "forbidden by name": "secret-project",
        "forbidden by id": ours["id"],
        "another tenant's by id": theirs["id"],
        "another tenant's by name": "theirs",
    }


@pytest.mark.requirement("R10", "R29")
@pytest.mark.parametrize("op", FOR_APPLICATIONS, ids=lambda op: f"{op.method} {op.path}")
def test_a_key_out_of_reach_is_a_key_that_is_not_there(live: Live, stranger: dict[str, str], op: Any) -> None:
    unknown = {bare(ask(live, op, ref, stranger["token"]))[1] for ref in ("never-was", "key_" + "a" * 26)}
    assert len(unknown) == 1
    expected = bare(ask(live, op, "never-was", stranger["token"]))
    assert (expected[0], json.loads(expected[1])["code"]) == (404, "unknown")
    for what, ref in stranger.items():
        if what in ("token", "narrow"):
            continue
        assert bare(ask(live, op, ref, stranger["token"])) == expected, what
    # a key in reach of the credential, but not for this operation, is no more to be seen
    assert bare(ask(live, op, "within-reach", stranger["narrow"])) == expected


@pytest.mark.requirement("R10")
@pytest.mark.parametrize(
    "op", [op for op in ON_KEY if op.name not in SCOPED or op.method == "GET"], ids=lambda op: f"{op.method} {op.path}"
)
def test_another_tenants_key_is_not_there_for_people_either(live: Live, stranger: dict[str, str], op: Any) -> None:
    for role in ("custodian", "operator"):
        answers = [bare(ask(live, op, stranger[f"another tenant's by {by}"], role)) for by in ("id", "name")]
        assert answers == [bare(ask(live, op, "never-was", role))] * 2
        assert answers[0][0] in (403, 404)


@pytest.mark.requirement("R10", "R29")
def test_the_target_of_a_re_encryption_is_as_invisible(live: Live, stranger: dict[str, str]) -> None:
    path, token = "/v1/keys/within-reach/re-encrypt", stranger["token"]
    made = live.post("/v1/keys/within-reach/encrypt", token, {"plaintext": ""}).json()["ciphertext"]
    for source in (made, b64(bytes(120))):
        expected = bare(live.post(path, token, {"ciphertext": source, "to_key": "never-was"}))
        assert expected[0] == 404
        for what in ("forbidden by name", "forbidden by id", "another tenant's by id"):
            assert bare(live.post(path, token, {"ciphertext": source, "to_key": stranger[what]})) == expected
            items = [{"ciphertext": source, "to_key": ref} for ref in ("never-was", stranger[what])]
            results = live.post(f"{path}/batch", token, {"items": items}).json()["results"]
            assert results[0] == results[1]


@pytest.mark.requirement("R10")
@pytest.mark.parametrize("kind", ["malformed", "wrong role"])
def test_what_is_wrong_for_another_reason_tells_nothing_of_the_key(live: Live, stranger: dict[str, str], kind: str) -> None:
    refs = ["never-was", "secret-project", stranger["forbidden by id"], stranger["another tenant's by id"]]
    if kind == "malformed":
        answers = [live.request("POST", f"/v1/keys/{ref}/encrypt", stranger["token"], content=b"{") for ref in refs]
    else:
        answers = [live.post(f"/v1/keys/{ref}/encrypt", "operator", {"plaintext": ""}) for ref in refs]
    assert len({bare(a)[1] for a in answers}) == 1
    assert answers[0].status_code == (400 if kind == "malformed" else 403)


@pytest.mark.requirement("R11", "R14")
def test_a_ciphertext_that_is_not_ours_does_not_open_and_the_answer_says_no_more(live: Live, stranger: dict[str, str]) -> None:
    token = stranger["token"]
    other = live.token(["encrypt", "wrap"], ["secret-project"])
    foreign = live.post("/v1/keys/secret-project/encrypt", other, {"plaintext": b64(b"x" * 19)}).json()["ciphertext"]
    own = live.post("/v1/keys/within-reach/encrypt", token, {"plaintext": b64(b"x" * 19), "context": {"a": "b"}}).json()[
        "ciphertext"
    ]
    tampered = b64(bytes(200))
    wrapped = live.post("/v1/keys/within-reach/wrap", token, {"material": b64(b"k"), "context": {"a": "b"}}).json()["wrapped"]
    answers = [
        live.post("/v1/keys/within-reach/decrypt", token, {"ciphertext": ciphertext, "context": context})
        for ciphertext in (foreign, tampered, own, wrapped, "", b64(b"KC"), own[:-4])
        for context in ({"a": "c"}, {"a": "b"}, {})
        if (ciphertext, context) != (own, {"a": "b"})
    ]
    assert {a.status_code for a in answers} == {400}
    assert len({bare(a)[1] for a in answers}) == 1
    assert answers[0].json()["code"] == "undecipherable"


@pytest.mark.requirement("R10")
def test_another_tenants_credential_is_not_there(live: Live, stranger: dict[str, str]) -> None:
    made = live.post("/v1/tenants", "custodian", {"name": "refusals-2"}).json()
    operator = next(c["token"] for c in made["credentials"] if c["role"] == "operator")
    theirs = live.get("/v1/whoami", operator).json()["credential"]
    answers = [live.post(f"/v1/credentials/{ref}/revoke", "operator", {}) for ref in (theirs, "crd_" + "a" * 26, "crd_x")]
    assert len({bare(a)[1] for a in answers}) == 1
    assert answers[0].status_code == 404
    assert live.get("/v1/whoami", operator).status_code == 200

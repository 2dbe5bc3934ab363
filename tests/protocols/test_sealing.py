"""Sealed and unsealed over HTTP: a server opens only by enough right shares, slowly after wrong ones, and closes at any time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.shares import split
from keyclave.operations.operation import Operation
from keyclave.operations.table import OPERATIONS
from keyclave.policy.duties import DUTIES, SCOPED
from tests.live import Live, launch
from tests.protocols.every import b64

CONTEXT = {"patient": "p-1"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of these tests' own, 3 of 4 shares, as it starts: sealed. Each test leaves it sealed, no shares received."""
    server = launch(tmp_path_factory.mktemp("sealed"), "--threshold", "3", "--custodians", "4", unseal=False)
    yield server
    server.stop()


def offer(live: Live, share: str) -> httpx.Response:
    """Give a share; while the server makes everybody wait, wait."""
    deadline = time.monotonic() + 30
    while True:
        answer = live.post("/v1/unseal", body={"share": share})
        if answer.status_code != 429 or time.monotonic() > deadline:
            return answer
        assert "try again in" in answer.json()["hint"]
        assert answer.headers["retry-after"]
        time.sleep(0.05)  # between two looks at a condition


def unseal(live: Live, shares: list[str]) -> dict[str, Any]:
    answers = [offer(live, share).json() for share in shares]
    assert "sealed" in answers[-1], answers
    return dict(answers[-1])


def seal(live: Live, role: str = "operator") -> None:
    assert live.post("/v1/seal", role).json()["sealed"] is True


def altered(share: str) -> str:
    """Return the share with one letter typed wrong."""
    last = share[-1]
    return share[:-1] + ("0" if last != "0" else "2")


def progress(live: Live) -> tuple[bool, int, int]:
    status = live.get("/v1/status").json()
    return status["sealed"], status["unseal"]["received"], status["unseal"]["threshold"]


def needs_more(op: Operation) -> bool:
    """Tell whether a request must say something."""
    return op.request is not None and any(field.required for field in msgspec.structs.fields(op.request))


@pytest.mark.requirement("R16", "R6")
def test_a_server_starts_sealed_says_so_and_uses_no_key(sealed: Live) -> None:
    assert progress(sealed) == (True, 0, 3)
    assert sealed.get("/v1/status").json()["why_sealed"] == "started"
    health = sealed.get("/v1/health")
    assert (health.status_code, health.json()) == (503, {"status": "sealed"})
    for op in OPERATIONS:
        if not op.needs_root or op.on_key:
            continue
        custodians = "custodian" in DUTIES[op.name] and op.name != "credential-issue"
        role = "custodian" if custodians else "operator"
        bodies: dict[str, Any] = {
            "key-create": {"name": "k", "owner": "o"},
            "key-import": {"name": "k", "owner": "o", "token": "t", "wrapped": ""},
            "tenant-create": {"name": "t"},
            "credential-issue": {
                "principal": "app", "role": "application", "ttl_seconds": 60, "scope": {"operations": ["mac"], "keys": ["*"]},
            },
        }  # fmt: skip
        if op.name == "random":
            continue  # for applications, of which there is none yet
        by_path = {
            "/v1/authenticators/totp/finish": {"ceremony": "A", "code": "123456"},
            "/v1/authenticators/password": {"password": "four quiet lanterns"},
        }
        body = by_path.get(op.path) or bodies.get(op.name)
        if body is None and needs_more(op):
            continue  # a request without its fields is not well formed, sealed or not
        answer = sealed.get(op.path, role) if op.method == "GET" else sealed.post(op.path, role, body or {})
        assert (answer.status_code, answer.json()["code"]) == (503, "sealed"), op.path
        assert "unseal" in answer.json()["hint"]
    assert sealed.get("/v1/whoami", "custodian").status_code == 200  # who they are can be told without the root
    assert sealed.get("/v1/keys", "auditor").json()["keys"] == []
    assert sealed.get("/v1/log/keys").json()["vkeys"]  # what verifies the log is public, sealed or not


@pytest.mark.requirement("R16")
@pytest.mark.parametrize("chosen", [(0, 1, 2), (3, 1, 0), (2, 3, 1)], ids=str)
def test_any_three_shares_open_it_in_any_order_and_progress_is_shown(sealed: Live, chosen: tuple[int, ...]) -> None:
    for received, index in enumerate(chosen[:2], 1):
        answer = offer(sealed, sealed.shares[index]).json()
        assert (answer["sealed"], answer["received"], answer["threshold"]) == (True, received, 3)
        assert progress(sealed) == (True, received, 3)
        assert sealed.post("/v1/keys", "custodian", {"name": "early", "owner": "o"}).json()["code"] == "sealed"
    assert offer(sealed, sealed.shares[chosen[2]]).json()["sealed"] is False
    assert progress(sealed)[:2] == (False, 0)
    assert sealed.get("/v1/health").json() == {"status": "ok"}
    again = sealed.post("/v1/unseal", body={"share": sealed.shares[0]})
    assert (again.status_code, again.json()["code"]) == (409, "wrong_state")
    seal(sealed)


@pytest.mark.requirement("R16", "R6", "R11")
def test_sealed_again_nothing_is_used_and_unsealed_again_everything_opens(sealed: Live) -> None:
    unseal(sealed, sealed.shares[:3])
    key = sealed.create_key("kept")
    app = sealed.token(sorted(SCOPED), ["*"])
    made = sealed.post("/v1/keys/kept/encrypt", app, {"plaintext": b64(b"record"), "context": CONTEXT}).json()["ciphertext"]
    opened = {"ciphertext": made, "context": CONTEXT}
    for role in ("operator", "custodian"):
        assert "why_sealed" not in sealed.get("/v1/status").json()
        seal(sealed, role)
        assert sealed.get("/v1/status").json()["why_sealed"] == "sealed"
        uses = [
            sealed.post("/v1/keys/kept/encrypt", app, {"plaintext": ""}),
            sealed.post("/v1/keys/kept/decrypt", app, opened),
            sealed.post("/v1/keys/kept/decrypt/batch", app, {"items": [opened]}),
            sealed.post("/v1/random", app, {}),
            sealed.post("/v1/keys/kept/rotate", "operator"),
            sealed.post("/v1/keys/nothing/encrypt", app, {"plaintext": ""}),
            sealed.post("/v1/seal", "operator"),
        ]
        assert {(u.status_code, u.json()["code"]) for u in uses} == {(503, "sealed")}
        assert sealed.get("/v1/keys/kept", app).json()["id"] == key["id"]
        unseal(sealed, sealed.shares[1:])
        assert sealed.post("/v1/keys/kept/decrypt", app, opened).json()["plaintext"] == b64(b"record")
    for token in ("auditor", app):
        assert sealed.post("/v1/seal", token).json()["code"] == "refused"
    assert sealed.post("/v1/seal").status_code == 401
    seal(sealed)
    # a credential can be ended while nobody can open the server, with an idempotency key or without
    credential = sealed.get("/v1/whoami", app).json()["credential"]
    for headers in ({"idempotency-key": "while-sealed"}, {}):
        ended = sealed.post(f"/v1/credentials/{credential}/revoke", "operator", {}, headers=headers)
        assert ended.status_code == 200, ended.text
    assert sealed.get("/v1/whoami", app).status_code == 401


@pytest.mark.requirement("R16")
def test_wrong_shares_are_named_slowed_down_and_spoil_nothing(sealed: Live) -> None:
    other = [s.to_text() for s in _other_set()]
    first, second, third, _ = sealed.shares
    assert offer(sealed, first).json()["received"] == 1
    # each failure doubles the wait after it: these three take seven seconds (tests/unit has every other way to be wrong)
    for wrong, said in [(altered(first), "typing error"), (first, "given already"), (other[0], "another set")]:
        answer = offer(sealed, wrong)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
        assert said in answer.json()["detail"]
        assert wrong not in answer.text
        assert progress(sealed) == (True, 1, 3)  # what was received stays
        waiting = sealed.post("/v1/unseal", body={"share": second})  # even a right one, at once
        assert (waiting.status_code, waiting.json()["code"]) == (429, "limit_reached")
        assert progress(sealed) == (True, 1, 3)
    assert unseal(sealed, [second, third])["sealed"] is False
    seal(sealed)
    assert offer(sealed, first).status_code == 200  # after a success nobody waits for old mistakes
    assert offer(sealed, second).status_code == 200
    assert offer(sealed, third).json()["sealed"] is False
    seal(sealed)


def _other_set() -> list[Any]:
    module = PycaModule()
    with module.random_slot(32) as secret:
        return split(module, secret, 3, 4).shares


@pytest.mark.requirement("R16", "R5")
def test_every_share_that_was_looked_at_is_in_the_record_and_no_share_is(sealed: Live) -> None:
    start = int(sealed.get("/v1/status").json()["log"]["size"])
    sent = [offer(sealed, s) for s in (sealed.shares[0], sealed.shares[0], *sealed.shares[1:3])]
    assert [a.status_code for a in sent] == [200, 400, 200, 200]
    page = sealed.get("/v1/audit/events", "auditor", params={"from": start, "operation": "unseal", "limit": 1000}).json()[
        "events"
    ]
    looked_at = [e for e in page if e["actor"] == "share-holder"]
    assert [(e["id"], e["outcome"]) for e in looked_at] == [(a.json()["event"], a.json().get("code", "ok")) for a in sent]
    assert [(e["detail"]["received"], e["detail"]["sealed"]) for e in looked_at] == [(1, 1), (1, 1), (2, 1), (0, 0)]
    assert all(e["source"] == "127.0.0.1" and "credential" not in e for e in looked_at)
    stored = sealed.stored() + sealed.log_file.read_bytes()
    assert b'"share-holder"' in stored
    for share in sealed.shares:
        digits = share.removeprefix("kcs1-")
        for form in (share, digits, digits.replace("-", ""), digits[-17:]):
            assert form.encode() not in stored
    seal(sealed)


@pytest.mark.requirement("R16")
def test_shares_that_wait_are_forgotten_by_a_restart_and_an_open_server_starts_sealed(sealed: Live) -> None:
    unseal(sealed, sealed.shares[:3])
    sealed.kill()
    sealed.restart(unseal=False)
    assert progress(sealed) == (True, 0, 3)
    assert offer(sealed, sealed.shares[0]).json()["received"] == 1
    sealed.kill()
    sealed.restart(unseal=False)
    assert progress(sealed) == (True, 0, 3)

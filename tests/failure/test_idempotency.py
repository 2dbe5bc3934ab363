"""Idempotency keys: a change is made once, however often and however concurrently it is asked for; rehearsals change nothing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from drill.wire import Wire
from keyclave.core.canonical import canonical
from keyclave.crypto.digest import sha256
from keyclave.operations.once import request_digest
from tests.live import Live, launch

CLIENTS = 8
LATER = {"version": 1, "days": 30, "reason": "r"}
SCOPE = {"operations": ["encrypt"], "keys": ["*"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = launch(tmp_path_factory.mktemp("once"))
    yield live
    live.stop()


def send(live: Live, path: str, who: str, body: dict[str, Any], key: str) -> httpx.Response:
    return live.post(path, who, body, headers={"idempotency-key": key})


def size(live: Live) -> int:
    return int(live.get("/v1/status").json()["log"]["size"])


def outcomes(live: Live, start: int) -> list[tuple[str, str, bool]]:
    """Return (operation, outcome, replayed) of the events from number `start`."""
    page = live.get(f"/v1/audit/events?from={start}&limit=1000", "auditor").json()["events"]
    return [(e["op"], e["outcome"], bool((e.get("detail") or {}).get("replayed"))) for e in page]


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("what", ["create", "rotate", "issue", "create a slow one"])
def test_the_same_key_from_many_at_once_is_one_change_and_one_answer(server: Live, what: str) -> None:
    name = "once-" + what.replace(" ", "-")
    slow = {"spec": "rsa-3072", "purpose": "sign"}
    path, who, body = {
        "create": ("/v1/keys", "custodian", {"name": name, "owner": "o"}),
        "create a slow one": ("/v1/keys", "custodian", {"name": name, "owner": "o", **slow}),
        "rotate": (f"/v1/keys/{name}/rotate", "operator", {"reason": "due"}),
        "issue": (
            "/v1/credentials",
            "operator",
            {"principal": name, "role": "application", "ttl_seconds": 600, "scope": SCOPE},
        ),
    }[what]
    if what == "rotate":
        server.create_key(name)
    start, key = size(server), str(uuid.uuid4())
    ready = threading.Barrier(CLIENTS)

    def client(_number: int) -> tuple[int, dict[str, Any]]:
        wire = Wire(server, who)
        ready.wait(30)
        try:
            return wire.post(path, body, key)
        finally:
            wire.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(client, range(CLIENTS)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] in (200, 201)
    seen = [replayed for op, outcome, replayed in outcomes(server, start) if op in ("key-create", "rotate", "credential-issue")]
    assert sorted(seen) == [False] + [True] * (CLIENTS - 1)  # each attempt is on record, one of them did it
    if what != "issue":
        versions = server.get(f"/v1/keys/{name}", "custodian").json()["versions"]
        assert len(versions) == (2 if what == "rotate" else 1)


def test_a_replay_says_that_it_is_one_and_is_the_first_answer(server: Live) -> None:
    body = {"name": "replayed", "owner": "o"}
    first = send(server, "/v1/keys", "custodian", body, "a key of mine")
    again = send(server, "/v1/keys", "custodian", body, "a key of mine")
    assert (first.status_code, again.status_code, first.content) == (201, 201, again.content)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    receipt = server.get(f"/v1/audit/receipts/{again.json()['event']}", "custodian")
    assert receipt.status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/keys", {"name": "other", "owner": "o"}),
        ("/v1/keys/bound/schedule-destruction", LATER),
        ("/v1/credentials/crd_x/revoke", {}),
    ],
    ids=["another body", "another operation", "another thing"],
)
def test_a_key_is_bound_to_its_request(server: Live, path: str, body: dict[str, Any]) -> None:
    if server.get("/v1/keys/bound", "custodian").status_code == 404:
        assert send(server, "/v1/keys", "custodian", {"name": "bound", "owner": "o"}, "bound key").status_code == 201
    start = size(server)
    refused = send(server, path, "custodian", body, "bound key")
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_reuse")
    assert outcomes(server, start)[0][1] == "idempotency_reuse"
    assert server.get("/v1/keys/other", "custodian").status_code == 404


def patch(live: Live, body: dict[str, Any], key: str, revision: int | None = None) -> httpx.Response:
    condition = {} if revision is None else {"if-match": f'"{revision}"'}
    return live.request("PATCH", "/v1/keys/conditional", "custodian", json=body, headers={"idempotency-key": key, **condition})


@pytest.mark.requirement("R23")
def test_a_key_is_bound_to_the_revision_that_the_change_is_for(server: Live) -> None:
    """If-Match was no part of it: a condition that did not hold was answered with somebody's success under another one."""
    revision = server.create_key("conditional")["rev"]
    body = {"owner": "radiology"}
    first = patch(server, body, "for this one", revision)
    assert (first.status_code, first.headers["etag"]) == (200, f'"{revision + 1}"')
    for other in (revision + 5, revision + 1, None):
        refused = patch(server, body, "for this one", other)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_reuse")
    again = patch(server, body, "for this one", revision)
    assert (again.status_code, again.content, again.headers["idempotent-replayed"]) == (200, first.content, "true")


@pytest.mark.requirement("R23")
def test_a_replay_carries_the_revision_of_its_answer(server: Live) -> None:
    """Whoever lost the first answer needs the ETag of it for the next change; what came after is for a conflict to tell."""
    body = {"name": "tagged", "owner": "o"}
    first = send(server, "/v1/keys", "custodian", body, "tagged")
    assert server.post("/v1/keys/tagged/rotate", "operator").json()["rev"] == first.json()["rev"] + 1
    again = send(server, "/v1/keys", "custodian", body, "tagged")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"] == f'"{first.json()["rev"]}"'
    tokens = {"principal": "untagged", "role": "application", "ttl_seconds": 600, "scope": SCOPE}
    for _ in range(2):
        assert "etag" not in send(server, "/v1/credentials", "operator", tokens, "untagged").headers


def test_answers_kept_before_conditions_counted_are_found() -> None:
    as_ever = sha256(canonical("keyclave/idempotency/1", "rotate", "ward", b"{}"))
    assert request_digest("rotate", "ward", b"{}") == as_ever
    assert len({as_ever, *(request_digest("rotate", "ward", b"{}", revision) for revision in (0, 1))}) == 3


def test_different_bodies_under_one_key_at_once_are_one_change_and_refusals(server: Live) -> None:
    ready = threading.Barrier(CLIENTS)

    def client(number: int) -> int:
        wire = Wire(server, "custodian")
        ready.wait(30)
        try:
            return wire.post("/v1/keys", {"name": f"rival-{number}", "owner": "o"}, "contested")[0]
        finally:
            wire.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = sorted(pool.map(client, range(CLIENTS)))
    assert statuses == [201] + [422] * (CLIENTS - 1)
    assert len(server.get("/v1/keys?name=rival-", "custodian").json()["keys"]) == 1


def test_keys_of_different_people_do_not_meet(server: Live) -> None:
    body = {"principal": "second-custodian", "role": "custodian", "ttl_seconds": 600}
    second = server.post("/v1/credentials", "custodian", body).json()["token"]
    one = send(server, "/v1/keys", "custodian", {"name": "mine", "owner": "o"}, "same words")
    two = send(server, "/v1/keys", second, {"name": "yours", "owner": "o"}, "same words")
    assert (one.status_code, two.status_code) == (201, 201)


def test_a_refused_change_is_not_kept_and_may_be_asked_for_again(server: Live) -> None:
    body = {"reason": "due"}
    assert send(server, "/v1/keys/not-there-yet/rotate", "operator", body, "early").status_code == 404
    server.create_key("not-there-yet")
    assert send(server, "/v1/keys/not-there-yet/rotate", "operator", body, "early").json()["primary"] == 2


def test_a_key_outlives_the_process(own_live: Live) -> None:
    body = {"name": "before-the-crash", "owner": "o"}
    first = send(own_live, "/v1/keys", "custodian", body, "crash")
    own_live.kill()
    own_live.restart()
    again = send(own_live, "/v1/keys", "custodian", body, "crash")
    assert (again.status_code, again.content) == (201, first.content)


def test_a_sealed_server_replays_nothing(own_live: Live) -> None:
    """An answer may hold a token: without the root it stays closed."""
    body = {"name": "sealed-away", "owner": "o"}
    first = send(own_live, "/v1/keys", "custodian", body, "k")
    own_live.post("/v1/seal", "operator")
    refused = send(own_live, "/v1/keys", "custodian", body, "k")
    assert (refused.status_code, refused.json()["code"]) == (503, "sealed")
    own_live.unseal()
    assert send(own_live, "/v1/keys", "custodian", body, "k").content == first.content


@pytest.mark.parametrize("key", ["", "x" * 129, "tab\there", "ümlaut"], ids=["empty", "too long", "control", "not ASCII"])
def test_what_is_no_key_is_said_and_changes_nothing(server: Live, key: str) -> None:
    name = f"key-{len(key)}-{ord(key[1:2] or '0')}"
    headers = {b"authorization": b"Bearer " + server.tokens["custodian"].encode(), b"idempotency-key": key.encode()}
    answer = server.http.request("POST", "/v1/keys", headers=headers, json={"name": name, "owner": "o"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert server.get(f"/v1/keys/{name}", "custodian").status_code == 404


# ---- rehearsals -----------------------------------------------------------------------------------------------------------
CHANGES = {
    "create": ("/v1/keys", "custodian", {"name": "rehearsed-only", "owner": "o"}),
    "rotate": ("/v1/keys/rehearsal/rotate", "operator", {}),
    "suspend": ("/v1/keys/rehearsal/suspend", "operator", {"reason": "r"}),
    "deactivate": ("/v1/keys/rehearsal/deactivate", "operator", {"reason": "r"}),
    "compromise": ("/v1/keys/rehearsal/compromise", "operator", {"reason": "r"}),
    "issue": (
        "/v1/credentials", "operator",
        {"principal": "rehearsed", "role": "application", "ttl_seconds": 600, "scope": SCOPE},
    ),
    "tenant": ("/v1/tenants", "custodian", {"name": "rehearsed-tenant"}),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_rehearsal_answers_and_changes_nothing(server: Live, what: str) -> None:
    if server.get("/v1/keys/rehearsal", "custodian").status_code == 404:
        server.create_key("rehearsal")
    path, who, body = CHANGES[what]
    before = (
        server.get("/v1/keys/rehearsal", "custodian").json() | {"event": ""},
        len(server.get("/v1/credentials?limit=1000", "custodian").json()["credentials"]),
    )
    start = size(server)
    answer = server.post(path + "?dry_run=true", who, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["keyclave-dry-run"] == "true"
    assert "dry_run" in [outcome[1] for outcome in outcomes(server, start)]
    after = (
        server.get("/v1/keys/rehearsal", "custodian").json() | {"event": ""},
        len(server.get("/v1/credentials?limit=1000", "custodian").json()["credentials"]),
    )
    assert after == before
    assert server.get("/v1/keys/rehearsed-only", "custodian").status_code == 404
    if "token" in answer.json():
        assert server.get("/v1/whoami", answer.json()["token"]).status_code == 401


def test_a_rehearsal_is_refused_for_the_reason_the_change_would_be(server: Live) -> None:
    server.create_key("taken")
    answer = server.post("/v1/keys?dry_run=true", "custodian", {"name": "taken", "owner": "o"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_a_rehearsal_uses_up_no_idempotency_key(server: Live) -> None:
    body = {"name": "rehearsed-then-made", "owner": "o"}
    assert send(server, "/v1/keys?dry_run=true", "custodian", body, "both").status_code == 200
    made = send(server, "/v1/keys", "custodian", body, "both")
    assert made.status_code == 201
    assert "idempotent-replayed" not in made.headers


@pytest.mark.requirement("R44")
def test_a_sealing_that_is_rehearsed_seals_nothing(server: Live) -> None:
    answer = server.post("/v1/seal?dry_run=true", "operator", {})
    assert (answer.status_code, answer.json()["sealed"]) == (200, True)
    assert server.get("/v1/health").json() == {"status": "ok"}
    created = server.post("/v1/keys", "custodian", {"name": "made-after-a-rehearsal", "owner": "o"})
    assert created.status_code == 201, created.text


@pytest.mark.requirement("R44")
def test_what_cannot_be_rehearsed_is_refused_and_not_done(server: Live) -> None:
    answer = server.post("/v1/random?dry_run=true", server.token(["random"], ["*"]), {"bytes": 8})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert server.get("/v1/health").json() == {"status": "ok"}

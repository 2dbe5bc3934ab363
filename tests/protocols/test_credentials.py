"""Credentials: who issues what to whom, what a scope lets through, and that a revoked or expired token opens nothing at all."""

from __future__ import annotations

import base64
import hashlib
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyclave.app import ceremony, wiring
from keyclave.core.clock import MICROSECONDS
from keyclave.operations.table import OPERATIONS
from tests.live import Live
from tests.protocols.clocked import Hands
from tests.protocols.every import ROLES, b64
from tests.protocols.inside import inside

DAY = 86_400
SCOPE = {"operations": ["encrypt"], "keys": ["none"]}
TENANT_PEOPLE = ("custodian", "operator", "auditor")


def issue(live: Live, by: str, principal: str, role: str, **fields: Any) -> httpx.Response:
    body = {"principal": principal, "role": role, "ttl_seconds": 600, **fields}
    if role == "application":
        body.setdefault("scope", SCOPE)
    return live.post("/v1/credentials", by, body)


def revoke(live: Live, credential: str, by: str = "operator") -> httpx.Response:
    return live.post(f"/v1/credentials/{credential}/revoke", by, {"reason": "test"})


def bare(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return what an answer says without the date and the event's number."""
    content = answer.content.replace(str(answer.json().get("event", "-")).encode(), b"")
    headers = {n: v for n, v in answer.headers.items() if n not in ("date", "content-length")}
    return answer.status_code, content, headers


# ---- issuing ------------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R10", "R29")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("by", ROLES)
def test_who_issues_credentials_for_whom(live: Live, by: str, role: str) -> None:
    token = live.token(["encrypt"], ["none"]) if by == "application" else by
    allowed = (by, role) in {("operator", "application"), *(("custodian", r) for r in TENANT_PEOPLE)}
    answer = issue(live, token, f"by-{by}-{role}", role)
    assert answer.status_code == (201 if allowed else 403), answer.text
    if allowed:
        who = live.get("/v1/whoami", answer.json()["token"]).json()
        assert (who["principal"], who["role"], who["credential"]) == (f"by-{by}-{role}", role, answer.json()["id"])
    else:
        assert answer.json()["code"] == "refused"
        assert answer.json()["hint"]


@pytest.mark.requirement("R10")
def test_a_principal_that_holds_one_duty_never_gets_another(live: Live) -> None:
    for held, by in [
        ("custodian", "custodian"),
        ("operator", "custodian"),
        ("auditor", "custodian"),
        ("application", "operator"),
    ]:
        principal = f"holder-{held}"
        assert issue(live, by, principal, held).status_code == 201
        assert issue(live, by, principal, held).status_code == 201  # a second credential of the same duty is no second duty
        for wanted in ROLES:
            if wanted != held:
                answer = issue(live, "operator" if wanted == "application" else "custodian", principal, wanted)
                assert (answer.status_code, answer.json()["code"]) == (409, "separation_of_duties")
                assert "another person" in answer.json()["hint"]
    # not even when everything they held has been revoked: the duty was theirs
    made = issue(live, "custodian", "was-auditor", "auditor").json()
    assert revoke(live, made["id"]).status_code == 200
    assert issue(live, "custodian", "was-auditor", "operator").json()["code"] == "separation_of_duties"


@pytest.mark.requirement("R10")
def test_nobody_issues_to_themselves(live: Live) -> None:
    own = live.get("/v1/whoami", "custodian").json()["principal"]
    answer = issue(live, "custodian", own, "custodian")
    assert (answer.status_code, answer.json()["code"]) == (409, "separation_of_duties")
    assert "themselves" in answer.json()["detail"]


@pytest.mark.requirement("R10", "R5")
@pytest.mark.parametrize("name", ["nobody", "share-holder", "ceremony"])
def test_names_that_mean_something_in_the_record_are_nobodys(live: Live, name: str) -> None:
    for by, role in (("custodian", "auditor"), ("operator", "application")):
        answer = issue(live, by, name, role)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.requirement("R10")
def test_of_two_that_ask_for_two_duties_of_one_person_at_once_one_is_refused(live: Live) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(issue, live, "custodian", f"race-{i // 2}", TENANT_PEOPLE[i % 2]) for i in range(16)]
    codes = [a.result().status_code for a in asked]
    for pair in range(8):
        assert sorted(codes[2 * pair : 2 * pair + 2]) == [201, 409]


@pytest.mark.requirement("R33", "R29")
@pytest.mark.parametrize(
    ("role", "fields", "good"),
    [
        ("application", {"ttl_seconds": 60}, True),
        ("application", {"ttl_seconds": 59}, False),
        ("application", {"ttl_seconds": 90 * DAY}, True),
        ("application", {"ttl_seconds": 90 * DAY + 1}, False),
        ("auditor", {"ttl_seconds": 30 * DAY}, True),
        ("auditor", {"ttl_seconds": 30 * DAY + 1}, False),
        ("application", {"scope": None}, False),
        ("auditor", {"scope": SCOPE}, False),
        ("application", {"scope": {"operations": [], "keys": ["k"]}}, False),
        ("application", {"scope": {"operations": ["encrypt"], "keys": []}}, False),
        ("application", {"scope": {"operations": ["rotate"], "keys": ["k"]}}, False),
        ("application", {"scope": {"operations": ["encrypt"], "keys": ["k"], "context": {"a": []}}}, False),
        ("application", {"scope": {"operations": ["encrypt"], "keys": ["k"] * 129}}, False),
        ("application", {"scope": {"operations": ["encrypt"], "keys": ["k" * 128]}}, True),
        ("application", {"scope": {"operations": ["encrypt"], "keys": ["k" * 200]}}, False),
        ("application", {"scope": {"operations": ["encrypt"] * 100, "keys": ["k"]}}, False),
        ("application", {"scope": {"operations": ["encrypt"], "keys": ["k"], "context": {"a": ["v" * 1025]}}}, False),
        ("application", {"scope": {"operations": ["encrypt"], "keys": ["k"], "context": {"a": ["v\n"]}}}, False),
        ("application", {"scope": {"operations": ["encrypt"], "keys": ["k"], "context": {"a b": ["v"]}}}, False),
        ("application", {"scope": {"operations": ["encrypt"], "keys": ["k"], "else": 1}}, False),
        ("auditor", {"principal": "two words"}, False),
        ("auditor", {"principal": "line\n"}, False),
    ],
)
def test_lives_and_scopes_have_limits(live: Live, role: str, fields: dict[str, Any], good: bool) -> None:
    fields = {"principal": f"limit-{role}", **fields}
    answer = issue(live, "operator" if role == "application" else "custodian", role=role, **fields)
    assert answer.status_code == (201 if good else 400), answer.text[:300]
    assert good or answer.json()["code"] == "malformed"


@pytest.mark.requirement("R5")
def test_credentials_are_listed_without_tokens_in_pages(live: Live) -> None:
    made = [issue(live, "custodian", f"listed-{i}", "auditor").json() for i in range(3)]
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = live.get("/v1/credentials", "auditor", params={"limit": 2, "cursor": cursor})
        assert "kct_" not in page.text
        found += page.json()["credentials"]
        cursor = page.json()["next"]
    ids = [c["id"] for c in found]
    assert ids == sorted(set(ids))
    by_id = {c["id"]: c for c in found}
    for credential in made:
        kept = by_id[credential["id"]]
        assert {**kept, "token": credential["token"], "event": credential["event"]} == credential
        assert kept["revoked_at"] is None
    app = live.token(["encrypt"], ["none"])
    assert live.get("/v1/credentials", app).json()["code"] == "refused"


# ---- what is kept -------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R4", "R33")
def test_a_token_is_kept_as_its_digest_and_nowhere_else(live: Live) -> None:
    scope = {"operations": ["encrypt"], "keys": ["none"]}
    body = {"principal": "kept-app", "role": "application", "ttl_seconds": 600, "scope": scope}
    headers = {"idempotency-key": "keep-this-answer"}
    issued = live.post("/v1/credentials", "operator", body, headers=headers).json()
    again = live.post("/v1/credentials", "operator", body, headers=headers)
    assert (again.headers["idempotent-replayed"], again.json()["token"]) == ("true", issued["token"])  # kept, but sealed
    token = issued["token"].encode()
    random = base64.urlsafe_b64decode(token.removeprefix(b"kct_") + b"=")
    secrets = [
        token,
        token.removeprefix(b"kct_"),
        random,
        base64.b64encode(random)[:-1],
        base64.b64encode(token)[:-2],
        random.hex().encode(),
    ]
    stored = live.stored() + live.log_file.read_bytes()
    assert hashlib.sha256(token).digest() in stored  # the search finds what is there
    for secret in secrets:
        assert secret not in stored


# ---- ending -------------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R33", "P4")
def test_when_revoke_is_answered_no_use_follows_however_many_are_under_way(live: Live) -> None:
    live.create_key("hammered")
    token = live.token(["encrypt", "mac"], ["hammered"])
    credential = live.get("/v1/whoami", token).json()["credential"]
    used, answered, stop = threading.Event(), threading.Event(), threading.Event()
    late: list[int] = []

    def hammer() -> int:
        uses = 0
        with httpx.Client(base_url=live.url, verify=ssl.create_default_context(cafile=live.ca_file), timeout=30) as client:
            while not stop.is_set():
                after = answered.is_set()
                answer = client.post(
                    "/v1/keys/hammered/encrypt", headers={"authorization": f"Bearer {token}"}, json={"plaintext": b64(b"x")}
                )
                if after:
                    late.append(answer.status_code)
                if answer.status_code == 200:
                    uses += 1
                    used.set()
        return uses

    with ThreadPoolExecutor(6) as pool:
        hammers = [pool.submit(hammer) for _ in range(6)]
        assert used.wait(20)
        revoked = revoke(live, credential)
        answered.set()
        while len(late) < 60 and not any(h.done() for h in hammers):
            live.get("/v1/health")
        stop.set()
    assert revoked.status_code == 200
    assert sum(h.result() for h in hammers) > 0
    assert set(late) == {401}
    start = int(revoked.json()["event"].rpartition("-")[2])
    page = live.get("/v1/audit/events", "auditor", params={"from": start, "limit": 1000}).json()["events"]
    assert page[0]["op"] == "credential-revoke"
    assert [e for e in page if e.get("credential") == credential and e["outcome"] == "ok"] == []


@pytest.mark.requirement("R33")
def test_a_second_revocation_changes_nothing(live: Live) -> None:
    made = issue(live, "custodian", "twice", "auditor").json()
    first, second = revoke(live, made["id"]).json(), revoke(live, made["id"], "custodian").json()
    assert first["revoked_at"] == second["revoked_at"] is not None
    assert live.get("/v1/whoami", made["token"]).status_code == 401
    app = live.token(["encrypt"], ["none"])
    for by in ("auditor", app):
        assert revoke(live, made["id"], by).json()["code"] == "refused"
    answers = {bare(revoke(live, c))[1] for c in ("crd_" + "a" * 26, "crd_x", "nobody", "%00")}
    assert len(answers) == 1
    assert b'"code":"unknown"' in answers.pop()


@pytest.mark.requirement("R33", "R10")
def test_absent_unknown_malformed_and_revoked_tokens_get_one_answer(live: Live) -> None:
    made = issue(live, "custodian", "gone", "auditor").json()
    assert live.get("/v1/whoami", made["token"]).status_code == 200
    revoke(live, made["id"])
    wrong = [made["token"], "kct_" + "A" * 43, "x", "kct_", "é".encode().decode("latin-1"), "A" * 5000]
    headers: list[dict[str, bytes | str]] = [{"authorization": f"Bearer {token}".encode("latin-1")} for token in wrong]
    headers += [{}, {"authorization": b""}, {"authorization": b"Basic YTpi"}, {"authorization": b"Bearer"}]
    for method, path in [
        ("GET", "/v1/whoami"),
        ("POST", "/v1/keys"),
        ("GET", "/v1/audit/consistency"),
        ("GET", "/v1/log/tile/0/000"),
    ]:
        answers = [live.request(method, path, headers=h) for h in headers]
        assert {a.status_code for a in answers} == {401}
        assert len({(a.content, a.headers["www-authenticate"]) for a in answers}) == 1
        assert b"event" not in answers[0].content
    good = live.request("GET", "/v1/whoami", headers={"authorization": f"bearer {live.tokens['auditor']}"})
    assert good.status_code == 200  # the scheme's name is case-insensitive (RFC 9110 section 11.1)
    twice = [("authorization", f"Bearer {live.tokens['auditor']}"), ("authorization", "Bearer x")]
    assert live.http.get("/v1/whoami", headers=twice).json()["code"] == "malformed"


@pytest.mark.requirement("R10", "R15")
def test_nothing_but_the_public_part_is_served_without_a_credential(live: Live) -> None:
    for op in OPERATIONS:
        path = op.path.replace("{key}", "any").replace("{credential}", "any")
        assert live.request(op.method, path).status_code == 401, op.path
        assert live.request(op.method, path, "kct_nobody", content=b"{").status_code == 401, op.path


@pytest.mark.requirement("R33")
def test_a_credential_ends_at_its_time_to_the_microsecond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands()
    monkeypatch.setattr(wiring, "SystemClock", lambda floor=0: hands)
    monkeypatch.setattr(ceremony, "SystemClock", lambda floor=0: hands)
    with inside(tmp_path) as server:
        credential, token = server.issue("brief", "auditor", ttl=60)
        issued, life = hands.at, 60 * MICROSECONDS
        for passed, expected in [(0, 200), (life // 2, 200), (life - 1, 200), (life, 401), (life + 1, 401), (10**13, 401)]:
            hands.at = issued + passed
            assert server.ask("GET", "/v1/whoami", token)[0] == expected
        server.desk.callers.forget("", credential)  # read again from the store it is as dead
        assert server.ask("GET", "/v1/whoami", token)[0] == 401
        hands.at = issued
        assert (
            server.ask("GET", "/v1/whoami", token)[0] == 200
        )  # it was the time that ended it (which never goes back: tests of core)


# ---- scopes -------------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R29", "R15")
def test_a_scope_is_operations_by_keys(live: Live) -> None:
    for name in ("sc-a", "sc-b", "sd-a"):
        live.create_key(name)
    by_id = live.get("/v1/keys/sd-a", "custodian").json()["id"]
    sealed = {}
    all_keys = live.token(["encrypt"], ["*"])
    for name in ("sc-a", "sc-b", "sd-a"):
        sealed[name] = live.post(f"/v1/keys/{name}/encrypt", all_keys, {"plaintext": b64(b"x")}).json()["ciphertext"]
    cases: list[tuple[list[str], list[str], set[tuple[str, str]]]] = [
        (["encrypt"], ["sc-a"], {("encrypt", "sc-a")}),
        (["decrypt"], ["sc-*"], {("decrypt", "sc-a"), ("decrypt", "sc-b")}),
        (["encrypt", "decrypt"], [by_id], {("encrypt", "sd-a"), ("decrypt", "sd-a")}),
        (["encrypt"], ["sc-a*", "nothing"], {("encrypt", "sc-a")}),
        (["mac"], ["*"], set()),
    ]
    for operations, keys, expected in cases:
        token = live.token(operations, keys)
        reached = set()
        for verb in ("encrypt", "decrypt"):
            for name, ciphertext in sealed.items():
                for ref in (name, live.get(f"/v1/keys/{name}", "custodian").json()["id"]):
                    body = {"plaintext": b64(b"x")} if verb == "encrypt" else {"ciphertext": ciphertext}
                    answer = live.post(f"/v1/keys/{ref}/{verb}", token, body)
                    assert answer.status_code in (200, 404)
                    if answer.status_code == 200:
                        reached.add((verb, name))
        assert reached == expected
        assert live.get("/v1/keys/sc-a", token).status_code == 404  # reading a key's description is a right of its own


@pytest.mark.requirement("R29", "R14")
def test_a_scope_binds_the_encryption_context(live: Live) -> None:
    live.create_key("bound")
    verbs = ["encrypt", "decrypt", "re-encrypt", "data-key", "wrap", "unwrap", "data-key-pair"]
    free = live.token(verbs, ["bound"])
    token = live.token(verbs, ["bound"], {"purpose": ["treatment", "billing"], "patient": ["*"]})
    fine = [{"purpose": "treatment", "patient": "p1"}, {"purpose": "billing", "patient": "p2", "more": "free"}]
    bad: list[dict[str, str]] = [
        {}, {"purpose": "treatment"}, {"patient": "p1"}, {"purpose": "research", "patient": "p1"}, {"purpose": "*", "patient": "p1"},
        {"purpose": "Treatment", "patient": "p1"}, {"purpose": "treatment ", "patient": "p1"},
    ]  # fmt: skip
    for context in fine + bad:
        made = live.post("/v1/keys/bound/encrypt", free, {"plaintext": b64(b"x"), "context": context}).json()["ciphertext"]
        wrapped = live.post("/v1/keys/bound/wrap", free, {"material": b64(b"key"), "context": context}).json()["wrapped"]
        for verb, body in [
            ("encrypt", {"plaintext": ""}), ("decrypt", {"ciphertext": made}), ("re-encrypt", {"ciphertext": made}),
            ("data-key", {}), ("wrap", {"material": b64(b"k")}), ("unwrap", {"wrapped": wrapped}), ("data-key-pair", {"spec": "ed25519"}),
        ]:  # fmt: skip
            answer = live.post(f"/v1/keys/bound/{verb}", token, {**body, "context": context})
            assert answer.status_code == (200 if context in fine else 403), (verb, context, answer.text)
    made = live.post("/v1/keys/bound/encrypt", token, {"plaintext": "", "context": fine[0]}).json()["ciphertext"]
    for to_context in bad:  # re-encryption must not carry data out of the bounds
        answer = live.post("/v1/keys/bound/re-encrypt", token, {"ciphertext": made, "context": fine[0], "to_context": to_context})
        assert answer.json()["code"] == "refused"
    items = [{"plaintext": "", "context": c} for c in fine + bad]
    results = live.post("/v1/keys/bound/encrypt/batch", token, {"items": items}).json()["results"]
    assert [r.get("error", {}).get("code") for r in results] == [None, None] + ["refused"] * len(bad)
    refused = live.post("/v1/keys/bound/encrypt", token, {"plaintext": "", "context": {"patient": "p1"}}).json()
    assert "'purpose'" in refused["detail"]  # what is missing is named, what would be right is not
    assert "treatment" not in refused["detail"] + refused["hint"]


@pytest.mark.requirement("R29")
def test_whoami_tells_a_caller_their_own_scope(live: Live) -> None:
    token = live.token(["encrypt", "decrypt"], ["a-*"], {"purpose": ["treatment"]})
    who = live.get("/v1/whoami", token).json()
    assert who["scope"] == {"operations": ["encrypt", "decrypt"], "keys": ["a-*"], "context": {"purpose": ["treatment"]}}
    assert live.get("/v1/whoami", "operator").json()["scope"] is None

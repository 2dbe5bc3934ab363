"""Two tenants on one server: each has keys, people and a record of its own, and neither can see, open or stop the other's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from keyclave.policy.duties import SCOPED
from tests.live import Live
from tests.protocols.every import b64

CONTEXT = {"patient": "p-1", "purpose": "treatment"}


@dataclass
class Tenant:
    """What a tenant's people hold, and a key and a ciphertext of theirs, all under the same names in every tenant."""

    id: str
    tokens: dict[str, str]
    app: str
    key: str
    ciphertext: str


def furnish(live: Live, tokens: dict[str, str]) -> Tenant:
    """Make the same key and application in a tenant."""
    key = live.post("/v1/keys", tokens["custodian"], {"name": "ehr", "owner": "o"}).json()["id"]
    scope = {"operations": sorted(SCOPED), "keys": ["*"]}
    issued = {"principal": "ehr-app", "role": "application", "ttl_seconds": 600, "scope": scope}
    app = live.post("/v1/credentials", tokens["operator"], issued).json()["token"]
    sealed = live.post("/v1/keys/ehr/encrypt", app, {"plaintext": b64(b"record"), "context": CONTEXT}).json()["ciphertext"]
    tenant = live.get("/v1/whoami", tokens["auditor"]).json()["tenant"]
    return Tenant(tenant, tokens, app, key, sealed)


@pytest.fixture(scope="module")
def home(live: Live) -> Tenant:
    return furnish(live, live.tokens)


@pytest.fixture(scope="module")
def guest(live: Live, home: Tenant) -> Tenant:
    made = live.post("/v1/tenants", "custodian", {"name": "second-clinic"})
    assert made.status_code == 201, made.text
    return furnish(live, {c["role"]: c["token"] for c in made.json()["credentials"]})


def events(live: Live, token: str, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    at: int | None = 0
    while at is not None:
        page = live.get("/v1/audit/events", token, params={"from": at, "limit": 1000, **filters}).json()
        found += page["events"]
        at = page["next"]
    return found


@pytest.mark.requirement("R10")
def test_a_tenant_is_made_with_its_first_people_by_the_home_tenant_only(live: Live, home: Tenant, guest: Tenant) -> None:
    assert set(guest.tokens) == {"custodian", "operator", "auditor"}
    for role, token in guest.tokens.items():
        who = live.get("/v1/whoami", token).json()
        assert (who["role"], who["tenant"]) == (role, guest.id)
    assert guest.id != home.id
    again = live.post("/v1/tenants", "custodian", {"name": "second-clinic"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    for token in (guest.tokens["custodian"], "operator", "auditor", home.app):
        assert live.post("/v1/tenants", token, {"name": "third"}).json()["code"] == "refused"
    rehearsed = live.post("/v1/tenants?dry_run=true", "custodian", {"name": "rehearsed"}).json()
    for credential in rehearsed["credentials"]:
        assert live.get("/v1/whoami", credential["token"]).status_code == 401


@pytest.mark.requirement("R11")
def test_the_same_name_is_another_key_in_another_tenant(live: Live, home: Tenant, guest: Tenant) -> None:
    assert home.key != guest.key
    for ours, theirs in ((home, guest), (guest, home)):
        assert live.get("/v1/keys/ehr", ours.app).json()["id"] == ours.key
        opened = live.post("/v1/keys/ehr/decrypt", ours.app, {"ciphertext": ours.ciphertext, "context": CONTEXT})
        assert opened.json()["plaintext"] == b64(b"record")
        for ref, verb, field in [
            ("ehr", "decrypt", "ciphertext"),
            (ours.key, "re-encrypt", "ciphertext"),
            ("ehr", "unwrap", "wrapped"),
        ]:
            answer = live.post(f"/v1/keys/{ref}/{verb}", ours.app, {field: theirs.ciphertext, "context": CONTEXT})
            assert answer.json()["code"] == "undecipherable"


@pytest.mark.requirement("R10", "R11")
def test_whatever_is_asked_of_another_tenants_key_it_is_not_there(live: Live, home: Tenant, guest: Tenant) -> None:
    for ours, theirs in ((home, guest), (guest, home)):
        app, people = ours.app, ours.tokens
        path = f"/v1/keys/{theirs.key}"
        asked = [
            live.get(path, app), live.get(path, people["custodian"]), live.get(path, people["auditor"]),
            live.get(f"{path}/public-key", app),
            live.post(f"{path}/encrypt", app, {"plaintext": ""}),
            live.post(f"{path}/decrypt", app, {"ciphertext": theirs.ciphertext, "context": CONTEXT}),
            live.post("/v1/keys/ehr/re-encrypt", app, {"ciphertext": ours.ciphertext, "context": CONTEXT, "to_key": theirs.key}),
            live.post(f"{path}/rotate", people["operator"]),
            live.post(f"{path}/compromise", people["operator"], {"reason": "harm"}),
            live.post(f"{path}/schedule-destruction", people["custodian"], {"version": 1, "reason": "harm"}),
            live.request("PATCH", path, people["custodian"], json={"owner": "me"}),
        ]  # fmt: skip
        assert {(a.status_code, a.json()["code"]) for a in asked} == {(404, "unknown")}
    assert live.get("/v1/keys/ehr", guest.app).json()["rev"] == 1
    assert live.get("/v1/keys/ehr", home.app).json()["rev"] == 1


@pytest.mark.requirement("R10")
def test_lists_hold_what_is_the_tenants_own(live: Live, home: Tenant, guest: Tenant) -> None:
    keys = live.get("/v1/keys", guest.tokens["auditor"], params={"limit": 1000}).json()["keys"]
    assert [k["id"] for k in keys] == [guest.key]
    credentials = live.get("/v1/credentials", guest.tokens["operator"], params={"limit": 1000}).json()["credentials"]
    assert {c["principal"] for c in credentials} == {"first-custodian", "first-operator", "first-auditor", "ehr-app"}
    assert len(credentials) == 4
    ours = {c["id"] for c in live.get("/v1/credentials", "operator", params={"limit": 1000}).json()["credentials"]}
    assert not ours & {c["id"] for c in credentials}


@pytest.mark.requirement("R10", "R5")
def test_the_record_is_shown_to_each_tenants_auditor_in_part(live: Live, home: Tenant, guest: Tenant) -> None:
    theirs = events(live, guest.tokens["auditor"])
    assert {e.get("tenant", "") for e in theirs} <= {guest.id, ""}
    assert {"encrypt", "key-create", "credential-issue"} <= {e["op"] for e in theirs}
    assert all(e["op"] in ("authenticate", "login", "unseal") for e in theirs if "tenant" not in e)
    ours = events(live, "auditor")
    assert guest.id not in {e.get("tenant") for e in ours}
    assert events(live, "auditor", key=guest.key) == []
    mine = next(e for e in theirs if e["op"] == "encrypt")
    assert live.get(f"/v1/audit/receipts/{mine['id']}", guest.tokens["auditor"]).status_code == 200
    absent = live.get(f"/v1/audit/receipts/{mine['id'].partition('-')[0]}-999999999", "auditor")
    for token in ("auditor", "custodian", home.app):
        answer = live.get(f"/v1/audit/receipts/{mine['id']}", token)
        assert (answer.status_code, answer.content) == (404, absent.content)


@pytest.mark.requirement("R10", "R40")
def test_entries_of_everybody_are_for_the_home_tenant_and_hashes_for_every_auditor(
    live: Live, home: Tenant, guest: Tenant
) -> None:
    for path in ("log/tile/0/000.p/1", "audit/consistency?from=0&to=1", "log/checkpoints"):
        assert live.get(f"/v1/{path}", guest.tokens["auditor"]).status_code == 200, path
    assert live.get("/v1/log/tile/entries/000.p/1", "auditor").status_code == 200
    refused = live.get("/v1/log/tile/entries/000.p/1", guest.tokens["auditor"])
    assert (refused.status_code, refused.json()["code"]) == (403, "refused")


@pytest.mark.requirement("R10", "R16")
def test_a_tenant_cannot_stop_the_server_of_all(live: Live, home: Tenant, guest: Tenant) -> None:
    for role in ("custodian", "operator"):
        answer = live.post("/v1/seal", guest.tokens[role])
        assert (answer.status_code, answer.json()["code"]) == (403, "refused")
    assert live.get("/v1/health").json() == {"status": "ok"}


@pytest.mark.requirement("R5", "P8")
def test_tags_of_one_value_differ_between_tenants(live: Live, home: Tenant, guest: Tenant) -> None:
    ours = next(e for e in events(live, "auditor", key=home.key) if e["op"] == "encrypt")["context"]
    theirs = next(e for e in events(live, guest.tokens["auditor"], key=guest.key) if e["op"] == "encrypt")["context"]
    assert ours["purpose"] == theirs["purpose"] == ["p:treatment"]
    assert ours["patient"] != theirs["patient"]


@pytest.mark.requirement("R10")
def test_names_and_idempotency_keys_are_each_tenants_own(live: Live, home: Tenant, guest: Tenant) -> None:
    headers = {"idempotency-key": "the-same-everywhere"}
    body = {"name": "twin", "owner": "o"}
    made = [live.post("/v1/keys", t.tokens["custodian"], body, headers=headers).json()["id"] for t in (home, guest)]
    assert made[0] != made[1]
    # first-operator is an operator in both tenants; to be an auditor in one is no second duty of a person in the other
    issued = {"principal": "crossing", "role": "auditor", "ttl_seconds": 600}
    assert live.post("/v1/credentials", home.tokens["custodian"], issued).status_code == 201
    assert live.post("/v1/credentials", guest.tokens["custodian"], {**issued, "role": "operator"}).status_code == 201


@pytest.mark.requirement("R12", "R10")
def test_an_import_is_finished_by_the_tenant_that_began_it(live: Live, home: Tenant, guest: Tenant) -> None:
    token = live.post("/v1/import/parameters", guest.tokens["custodian"]).json()["token"]
    body = {"name": "taken", "owner": "o", "token": token, "wrapped": b64(bytes(552))}
    theirs = live.post("/v1/keys/import", "custodian", body).json()
    unknown = live.post("/v1/keys/import", "custodian", {**body, "token": "imp_never"}).json()
    assert (theirs["code"], theirs["detail"]) == ("malformed", unknown["detail"])
    assert live.post("/v1/keys/import", guest.tokens["custodian"], body).json()["code"] == "undecipherable"

"""A key's whole life over REST: every move, who may make it, what each state lets through."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.live import Live, launch
from tests.protocols.test_record import events

PLAIN = base64.b64encode(b"record").decode()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A development server: waiting periods of no days are allowed there."""
    live = launch(tmp_path_factory.mktemp("house"), "--development", unseal=False)
    yield live
    live.stop()


def move(live: Live, key: str, verb: str, role: str, **body: Any) -> Any:
    return live.post(f"/v1/keys/{key}/{verb}", role, body)


def states(live: Live, key: str) -> list[str]:
    return [v["state"] for v in live.get(f"/v1/keys/{key}", "custodian").json()["versions"]]


def use(live: Live, key: str, app: str, verb: str = "encrypt", **body: Any) -> Any:
    return live.post(f"/v1/keys/{key}/{verb}", app, body or {"plaintext": PLAIN})


@pytest.mark.requirement("R13", "R23")
def test_a_key_is_born_described(live: Live) -> None:
    key = live.create_key("born", environment="staging", classification="PHI-limited", tags={"app": "ehr"}, activate=False)
    assert key["primary"] is None
    assert [v["state"] for v in key["versions"]] == ["pre-active"]
    for name in ("purpose", "owner", "environment", "classification", "cryptoperiod", "rotation", "location", "tags"):
        assert name in key
    assert key["stale_ok"] is False
    app = live.token(["encrypt"], ["born"])
    refused = use(live, "born", app)
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_state")
    assert "activate" in refused.json()["hint"]
    assert move(live, "born", "activate", "operator").status_code == 403
    assert move(live, "born", "activate", "custodian").json()["primary"] == 1
    assert use(live, "born", app).status_code == 200


@pytest.mark.requirement("R23", "R25")
def test_rotation_leaves_the_old_version_to_open_only(live: Live) -> None:
    live.create_key("turning")
    app = live.token(["encrypt", "decrypt"], ["turning"])
    first = use(live, "turning", app).json()["ciphertext"]
    assert move(live, "turning", "rotate", "custodian").status_code == 403
    key = move(live, "turning", "rotate", "operator").json()
    assert [(v["state"], v["primary"]) for v in key["versions"]] == [("deactivated", False), ("active", True)]
    assert use(live, "turning", app).json()["version"] == 2
    assert use(live, "turning", app, "decrypt", ciphertext=first).json()["version"] == 1
    kcvs = {v["kcv"] for v in key["versions"]}
    assert len(kcvs) == 2


@pytest.mark.requirement("R23")
def test_suspend_and_resume(live: Live) -> None:
    live.create_key("resting")
    app = live.token(["encrypt", "decrypt"], ["resting"])
    made = use(live, "resting", app).json()["ciphertext"]
    without_reason = move(live, "resting", "suspend", "operator")
    assert (without_reason.status_code, without_reason.json()["code"]) == (400, "malformed")
    assert move(live, "resting", "suspend", "operator", reason="audit").status_code == 200
    for verb, body in [("encrypt", {"plaintext": PLAIN}), ("decrypt", {"ciphertext": made})]:
        assert use(live, "resting", app, verb, **body).json()["code"] == "wrong_state"
    assert move(live, "resting", "rotate", "operator").json()["code"] == "wrong_state"
    assert move(live, "resting", "resume", "operator").status_code == 200
    assert use(live, "resting", app, "decrypt", ciphertext=made).status_code == 200


@pytest.mark.requirement("R23")
def test_archive_and_recover(live: Live) -> None:
    live.create_key("stored")
    app = live.token(["encrypt", "decrypt"], ["stored"])
    made = use(live, "stored", app).json()["ciphertext"]
    move(live, "stored", "rotate", "operator")
    assert move(live, "stored", "archive", "custodian", version=1).status_code == 200
    assert states(live, "stored") == ["archived", "active"]
    assert use(live, "stored", app, "decrypt", ciphertext=made).json()["code"] == "wrong_state"
    assert move(live, "stored", "recover", "custodian", version=1).status_code == 200
    assert use(live, "stored", app, "decrypt", ciphertext=made).status_code == 200
    assert move(live, "stored", "activate", "custodian", version=1).json()["code"] == "wrong_state"


@pytest.mark.requirement("R23")
def test_compromise_stops_every_use(live: Live) -> None:
    live.create_key("burnt")
    app = live.token(["encrypt", "decrypt"], ["burnt"])
    made = use(live, "burnt", app).json()["ciphertext"]
    assert move(live, "burnt", "compromise", "operator", reason="seen in a log").status_code == 200
    assert use(live, "burnt", app).json()["code"] == "wrong_state"
    assert use(live, "burnt", app, "decrypt", ciphertext=made).json()["code"] == "wrong_state"
    assert move(live, "burnt", "resume", "operator").json()["code"] == "wrong_state"


@pytest.mark.requirement("R16", "R23")
def test_destruction_takes_two_custodians_and_time(live: Live) -> None:
    live.create_key("old")
    issued = {"principal": "custodian-for-old", "role": "custodian", "ttl_seconds": 3600}
    assert live.post("/v1/credentials", "custodian", issued).status_code == 201
    move(live, "old", "rotate", "operator")
    assert move(live, "old", "schedule-destruction", "operator", version=1, reason="x", days=30).status_code == 403
    too_soon = move(live, "old", "schedule-destruction", "custodian", version=1, reason="end of retention", days=1)
    assert too_soon.json()["code"] == "malformed"
    assert move(live, "old", "schedule-destruction", "custodian", version=2, reason="x", days=30).json()["code"] == "wrong_state"
    assert (
        move(live, "old", "schedule-destruction", "custodian", version=1, reason="end of retention", days=30).status_code == 200
    )
    waiting = move(live, "old", "destroy", "custodian", version=1)
    assert (waiting.status_code, waiting.json()["code"]) == (409, "separation_of_duties")
    assert "another person" in waiting.json()["hint"]
    assert move(live, "old", "cancel-destruction", "custodian", version=1).status_code == 200


@pytest.mark.requirement("R16", "R23")
def test_destroyed_is_for_ever_and_leaves_a_tombstone(house: Live) -> None:
    house.create_key("gone")
    app = house.token(["encrypt", "decrypt"], ["gone"])
    made = use(house, "gone", app).json()["ciphertext"]
    move(house, "gone", "rotate", "operator")
    second = house.post(
        "/v1/credentials", "custodian", {"principal": "second-custodian", "role": "custodian", "ttl_seconds": 3600}
    ).json()["token"]
    assert move(house, "gone", "schedule-destruction", "custodian", version=1, reason="end", days=0).status_code == 200
    scheduled = use(house, "gone", app, "decrypt", ciphertext=made).json()
    assert (scheduled["code"], "scheduled" in scheduled["detail"]) == ("wrong_state", True)
    assert move(house, "gone", "destroy", "custodian", version=1).status_code == 409
    destroyed = move(house, "gone", "destroy", second, version=1)
    assert destroyed.status_code == 200, destroyed.text
    one = destroyed.json()["versions"][0]
    assert (one["state"], one["kcv"] != "", one["destroyed_at"] is not None) == ("destroyed", True, True)
    assert use(house, "gone", app, "decrypt", ciphertext=made).json()["code"] == "wrong_state"
    late = move(house, "gone", "compromise", "operator", version=1, reason="found later")
    assert late.json()["versions"][0]["state"] == "destroyed-compromised"


@pytest.mark.requirement("R23", "R24")
@pytest.mark.parametrize("version", [None, 1])
def test_what_is_to_be_destroyed_is_not_activated_and_is_destroyed_on_its_day(house: Any, version: int | None) -> None:
    """Activated meanwhile, it was active, served nobody, and could not be destroyed when its day came."""
    name = f"never-used-{version}"
    house.create_key(name, activate=False)
    assert move(house, name, "schedule-destruction", "custodian", version=1, reason="made by mistake", days=0).status_code == 200
    refused = move(house, name, "activate", "custodian", version=version)
    assert (refused.status_code, refused.json()["code"], states(house, name)) == (409, "wrong_state", ["pre-active"])
    assert move(house, name, "cancel-destruction", "operator").status_code == 200
    assert move(house, name, "schedule-destruction", "custodian", version=1, reason="made by mistake", days=0).status_code == 200
    other = {"principal": f"destroyer-{version}", "role": "custodian", "ttl_seconds": 600}
    second = house.post("/v1/credentials", "custodian", other).json()["token"]
    assert move(house, name, "destroy", second, version=1).json()["versions"][0]["state"] == "destroyed"


@pytest.mark.requirement("R23")
def test_revisions_guard_against_lost_updates(live: Live) -> None:
    rev = live.create_key("guarded")["rev"]
    changed = live.request(
        "PATCH", "/v1/keys/guarded", "custodian", json={"owner": "radiology"}, headers={"if-match": f'"{rev}"'}
    )
    assert (changed.status_code, changed.json()["owner"], changed.headers["etag"]) == (200, "radiology", f'"{rev + 1}"')
    stale = live.request("PATCH", "/v1/keys/guarded", "custodian", json={"owner": "x"}, headers={"if-match": f'"{rev}"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_revision")
    nonsense = live.request("PATCH", "/v1/keys/guarded", "custodian", json={"owner": "x"}, headers={"if-match": "abc"})
    assert nonsense.json()["code"] == "malformed"


@pytest.mark.requirement("R27")
def test_another_cryptoperiod_needs_a_reason(live: Live) -> None:
    live.create_key("period")
    body: dict[str, Any] = {"cryptoperiod": {"protect_days": 30, "process_days": 60}}
    assert live.request("PATCH", "/v1/keys/period", "custodian", json=body).json()["code"] == "malformed"
    body["reason"] = "risk analysis 2026-4"
    assert live.request("PATCH", "/v1/keys/period", "custodian", json=body).json()["cryptoperiod"]["protect_days"] == 30
    body["cryptoperiod"] = {"protect_days": 60, "process_days": 30}
    assert live.request("PATCH", "/v1/keys/period", "custodian", json=body).json()["code"] == "malformed"


@pytest.mark.requirement("P4", "R13", "R15")
def test_stale_use_is_allowed_for_a_reason_and_is_recorded(live: Live) -> None:
    live.create_key("firm")
    where = ("PATCH", "/v1/keys/firm")
    assert live.request(*where, "custodian", json={"stale_ok": True}).json()["code"] == "malformed"
    assert live.request(*where, "operator", json={"stale_ok": True, "reason": "x"}).status_code == 403
    allowed = live.request(*where, "custodian", json={"stale_ok": True, "reason": "ward 4 reads through a failover"})
    assert allowed.json()["stale_ok"] is True
    event = next(one for one in events(live, operation="key-update") if one["id"] == allowed.json()["event"])
    assert event["detail"] == {"fields": "stale_ok", "stale_ok": 1}
    assert event["reason"] == "ward 4 reads through a failover"
    assert live.get("/v1/keys/firm", "auditor").json()["stale_ok"] is True
    assert live.request(*where, "custodian", json={"stale_ok": False}).json()["stale_ok"] is False
    assert live.create_key("allowed-from-birth", stale_ok=True)["stale_ok"] is True
    signing = {"name": "signer", "owner": "o", "spec": "ecdsa-p256", "purpose": "sign", "stale_ok": True}
    assert live.post("/v1/keys", "custodian", signing).json()["code"] == "malformed"


@pytest.mark.requirement("R37", "R13")
def test_keys_are_listed_in_pages(live: Live) -> None:
    names = [f"page-{i:02}" for i in range(7)]
    for name in names:
        live.create_key(name)
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = live.get("/v1/keys", "auditor", params={"name": "page-", "limit": 3, "cursor": cursor}).json()
        found += [k["name"] for k in page["keys"]]
        cursor = page["next"]
    assert found == names
    assert live.get("/v1/keys", "auditor", params={"cursor": "%%%"}).json()["code"] == "malformed"
    assert live.get("/v1/keys", "auditor", params={"state": "odd"}).json()["code"] == "malformed"
    assert live.get("/v1/keys", "auditor", params={"limit": 0}).json()["code"] == "malformed"
    assert "sealed" not in live.get("/v1/keys", "auditor").text


def test_dry_run_changes_nothing(live: Live) -> None:
    rehearsed = live.post("/v1/keys?dry_run=true", "custodian", {"name": "maybe", "owner": "o"})
    assert (rehearsed.status_code, rehearsed.headers["keyclave-dry-run"]) == (200, "true")
    assert live.get("/v1/keys/maybe", "custodian").status_code == 404
    live.create_key("rehearse")
    assert live.post("/v1/keys/rehearse/rotate?dry_run=true", "operator").json()["primary"] == 2
    assert live.get("/v1/keys/rehearse", "custodian").json()["primary"] == 1
    assert live.post("/v1/keys?dry_run=perhaps", "custodian", {"name": "m", "owner": "o"}).json()["code"] == "malformed"


def test_a_name_is_taken_once(live: Live) -> None:
    live.create_key("single")
    again = live.post("/v1/keys", "custodian", {"name": "single", "owner": "o"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")

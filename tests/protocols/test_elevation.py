"""Roles for a while on a live server: who may take them on, that they end, and what breaking the glass sets off."""

from __future__ import annotations

import base64
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live import Live
from tests.stored import stored_rows

PLAIN = base64.b64encode(b"record").decode()
_number = itertools.count()


class Person:
    """A person without a duty."""

    def __init__(self, live: Live, name: str = "") -> None:
        self.live = live
        self.name = name or f"person-{next(_number)}"
        body = {"principal": self.name, "role": "person", "ttl_seconds": 3600}
        made = live.post("/v1/credentials", "custodian", body)
        assert made.status_code == 201, made.text
        self.token, self.credential = made.json()["token"], made.json()["id"]

    def post(self, path: str, body: Any = None, **kwargs: Any) -> httpx.Response:
        return self.live.post(path, self.token, body, **kwargs)

    def whoami(self) -> dict[str, Any]:
        return dict(self.live.get("/v1/whoami", self.token).json())


def eligible(live: Live, person: Person, role: str, **more: Any) -> dict[str, Any]:
    answer = live.post("/v1/eligibilities", "custodian", {"principal": person.name, "role": role, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def elevate(person: Person, role: str = "operator", reason: str = "incident 12", **more: Any) -> httpx.Response:
    return person.post("/v1/elevations", {"role": role, "reason": reason, **more})


@pytest.fixture
def person(live: Live) -> Person:
    return Person(live)


@pytest.fixture
def ward(live: Live) -> dict[str, str]:
    """A key with a record of each of two patients."""
    name = str(live.create_key(f"ward-{next(_number)}")["name"])
    app = live.token(["encrypt"], [name])
    sealed = {
        patient: live.post(f"/v1/keys/{name}/encrypt", app, {"plaintext": PLAIN, "context": {"patient": patient}}).json()[
            "ciphertext"
        ]
        for patient in ("p-1", "p-2")
    }
    return {"key": name, **sealed}


def read(person: Person, ward: dict[str, str], patient: str, **kwargs: Any) -> httpx.Response:
    body = {"ciphertext": ward[patient], "context": {"patient": patient}}
    return person.post(f"/v1/keys/{ward['key']}/decrypt", body, **kwargs)


# ---- just in time ---------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R10", "R33")
def test_an_eligible_person_takes_a_role_on_and_hands_it_back(live: Live, person: Person) -> None:
    assert elevate(person).status_code == 403
    eligible(live, person, "operator")
    assert live.get("/v1/credentials", person.token).status_code == 403
    taken = elevate(person, minutes=5)
    assert taken.status_code == 201, taken.text
    me = person.whoami()
    assert (me["role"], me["elevation"]["role"], me["elevation"]["id"]) == ("operator", "operator", taken.json()["id"])
    assert 290 <= me["elevation"]["seconds_left"] <= 300
    assert live.get("/v1/credentials", person.token).status_code == 200
    assert elevate(person).status_code == 403  # one at a time
    assert person.post(f"/v1/elevations/{taken.json()['id']}/end", {"reason": "done"}).json()["status"] == "ended"
    assert live.get("/v1/credentials", person.token).status_code == 403
    assert person.whoami().get("elevation") is None
    events = live.get("/v1/audit/events", "auditor", params={"actor": person.name}).json()["events"]
    acted = [event for event in events if event["op"] == "credential-list" and event["outcome"] == "ok"]
    assert [(event["grant"], event["role"]) for event in acted] == [(taken.json()["id"], "operator")]


@pytest.mark.requirement("R10")
def test_another_credential_of_the_same_person_is_not_elevated(live: Live, person: Person) -> None:
    eligible(live, person, "operator")
    assert elevate(person).status_code == 201
    other = Person(live, person.name)
    assert live.get("/v1/credentials", other.token).status_code == 403
    assert elevate(other).status_code == 201  # it takes the role on by itself
    assert live.get("/v1/credentials", other.token).status_code == 200


@pytest.mark.requirement("R10")
def test_nobody_makes_themselves_eligible_or_takes_on_what_excludes_another_duty(live: Live, person: Person) -> None:
    def asked(principal: str, role: str, by: str = "custodian") -> int:
        return live.post("/v1/eligibilities", by, {"principal": principal, "role": role}).status_code

    assert asked("first-custodian", "operator") == 409  # oneself
    assert asked("first-operator", "custodian") == 409  # two duties
    assert asked("first-auditor", "break-glass") == 400  # without keys
    assert (
        live.post(
            "/v1/eligibilities", "custodian", {"principal": "first-auditor", "role": "break-glass", "keys": ["a"]}
        ).status_code
        == 409
    )
    assert asked("first-auditor", "auditor") == 201
    assert asked(person.name, "operator") == 201
    assert asked(person.name, "custodian") == 409  # over eligibilities too
    assert asked(person.name, "application") == 400
    assert asked(person.name, "person") == 400
    assert asked(person.name, "wizard") == 400
    assert asked("nobody-known", "operator") == 404
    app = live.token(["encrypt"], ["x"])
    name = live.get("/v1/whoami", app).json()["principal"]
    assert asked(name, "operator") == 409
    assert asked(person.name, "operator", "operator") == 403
    assert asked(person.name, "operator", "auditor") == 403
    assert asked(person.name, "operator", app) == 403
    taken = elevate(person)
    assert asked(Person(live).name, "auditor", person.token) == 403  # an elevated operator makes nobody eligible
    person.post(f"/v1/elevations/{taken.json()['id']}/end")


@pytest.mark.requirement("R10")
def test_what_was_taken_on_ends_with_the_eligibility(live: Live, person: Person) -> None:
    made = eligible(live, person, "auditor")
    assert elevate(person, "auditor").status_code == 201
    assert live.get("/v1/audit/events", person.token).status_code == 200
    assert live.post(f"/v1/eligibilities/{made['id']}/revoke", "operator", {"reason": "left"}).status_code == 200
    assert live.get("/v1/audit/events", person.token).status_code == 403
    assert elevate(person, "auditor").status_code == 403


@pytest.mark.requirement("R10")
@pytest.mark.parametrize(
    "body",
    [
        {"role": "operator"}, {"role": "operator", "reason": ""}, {"role": "operator", "reason": "why", "minutes": 0},
        {"role": "operator", "reason": "why", "minutes": 721}, {"role": "break-glass", "reason": "why"}, {"reason": "why"},
        {"role": "operator", "reason": "a\nb"},
    ],
    ids=str,
)  # fmt: skip
def test_an_elevation_that_says_nothing_sensible_is_refused(live: Live, person: Person, body: dict[str, Any]) -> None:
    eligible(live, person, "operator")
    assert person.post("/v1/elevations", body).status_code == 400


@pytest.mark.requirement("R10")
def test_minutes_beyond_policy_are_refused(live: Live, person: Person) -> None:
    eligible(live, person, "operator")
    assert elevate(person, minutes=61).status_code == 403
    assert elevate(person, minutes=60).status_code == 201


@pytest.mark.requirement("R10")
def test_two_elevations_race_and_one_runs(live: Live, person: Person) -> None:
    eligible(live, person, "operator")
    with ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(lambda _: elevate(person).status_code, range(8)))
    assert answers.count(201) == 1
    assert set(answers) <= {201, 403, 409}


# ---- break-glass ----------------------------------------------------------------------------------------------------------
def broken(person: Person, reference: str = "p-1", **more: Any) -> httpx.Response:
    return person.post("/v1/break-glass", {"reason": "unconscious in the emergency room", "reference": reference, **more})


def finished(live: Live, person: Person, elevation: str, verdict: str = "justified") -> httpx.Response:
    person.post(f"/v1/elevations/{elevation}/end")
    return live.post(f"/v1/elevations/{elevation}/review", "auditor", {"verdict": verdict, "notes": "seen in the chart"})


@pytest.mark.requirement("R16", "R29")
def test_the_glass_is_broken_at_once_for_one_patient(live: Live, person: Person, ward: dict[str, str]) -> None:
    assert broken(person).status_code == 403
    eligible(live, person, "break-glass", keys=[ward["key"]])
    assert read(person, ward, "p-1").status_code in (403, 404)
    answer = broken(person, minutes=10)
    assert answer.status_code == 201, answer.text
    opened = read(person, ward, "p-1")
    assert opened.json()["plaintext"] == PLAIN
    assert read(person, ward, "p-2").status_code == 403  # another patient
    body = {"ciphertext": ward["p-1"], "context": {"patient": "p-2"}}
    assert person.post(f"/v1/keys/{ward['key']}/decrypt", body).status_code == 403
    other = live.create_key(f"other-{next(_number)}")["name"]
    assert person.post(f"/v1/keys/{other}/decrypt", {"ciphertext": ward["p-1"], "context": {"patient": "p-1"}}).status_code in (
        403,
        404,
    )
    assert person.post(f"/v1/keys/{ward['key']}/encrypt", {"plaintext": PLAIN, "context": {"patient": "p-1"}}).status_code == 403
    assert live.get("/v1/keys", person.token).status_code == 403
    events = live.get("/v1/audit/events", "auditor", params={"actor": person.name}).json()["events"]
    use = next(event for event in events if event["op"] == "decrypt" and event["outcome"] == "ok")
    assert (use["grant"], use["purpose"], use["role"]) == (answer.json()["id"], "break-glass", "break-glass")
    act = next(event for event in events if event["op"] == "break-glass" and event["outcome"] == "ok")
    assert act["context"]["patient"] == use["context"]["patient"]  # so that "who saw this patient" finds it
    assert "p-1" not in str(act)
    assert finished(live, person, answer.json()["id"]).status_code == 200


@pytest.mark.requirement("R16", "R34")
def test_every_custodian_and_auditor_is_alarmed_and_nobody_else(live: Live, person: Person, ward: dict[str, str]) -> None:
    eligible(live, person, "break-glass", keys=[ward["key"]])
    before = {who: live.get("/v1/whoami", who).json().get("alarms", 0) for who in ("custodian", "auditor", "operator")}
    elevation = broken(person).json()["id"]
    after = {who: live.get("/v1/whoami", who).json().get("alarms", 0) for who in before}
    assert {who: after[who] - before[who] for who in before} == {"custodian": 1, "auditor": 1, "operator": 0}
    alarm = live.get("/v1/alarms", "auditor").json()["alarms"][0]
    assert (alarm["kind"], alarm["elevation"], alarm["principal"]) == ("break-glass", elevation, person.name)
    assert live.post(f"/v1/alarms/{alarm['id']}/acknowledge", "custodian").status_code == 404  # not theirs
    assert live.post(f"/v1/alarms/{alarm['id']}/acknowledge", "auditor").status_code == 200
    assert alarm["id"] not in {a["id"] for a in live.get("/v1/alarms", "auditor").json()["alarms"]}
    assert alarm["id"] in {a["id"] for a in live.get("/v1/alarms", "auditor", params={"all": "true"}).json()["alarms"]}
    finished(live, person, elevation)


@pytest.mark.requirement("R16", "R34")
def test_the_next_one_waits_for_the_review_of_somebody_else(live: Live, person: Person, ward: dict[str, str]) -> None:
    eligible(live, person, "break-glass", keys=[ward["key"]])
    elevation = broken(person).json()["id"]
    review = {"verdict": "justified", "notes": "seen in the chart"}
    assert live.post(f"/v1/elevations/{elevation}/review", "auditor", review).status_code == 409  # it still runs
    assert broken(person).status_code == 403
    assert person.post(f"/v1/elevations/{elevation}/end").json()["status"] == "to-review"
    assert broken(person).status_code == 403
    assert broken(Person(live, person.name)).status_code == 403  # nor with another credential
    assert person.post(f"/v1/elevations/{elevation}/review", review).status_code == 403
    assert live.post(f"/v1/elevations/{elevation}/review", "operator", review).status_code == 403
    assert live.post(f"/v1/elevations/{elevation}/review", "auditor", {**review, "notes": ""}).status_code == 400
    done = live.post(f"/v1/elevations/{elevation}/review", "auditor", {**review, "verdict": "unjustified"})
    assert (done.json()["status"], done.json()["reviewed_by"], done.json()["verdict"]) == (
        "reviewed",
        "first-auditor",
        "unjustified",
    )
    assert live.post(f"/v1/elevations/{elevation}/review", "custodian", review).status_code == 409  # once
    again = broken(person)
    assert again.status_code == 201
    finished(live, person, again.json()["id"])


@pytest.mark.requirement("R16")
def test_two_who_break_the_same_glass_at_once_are_one(live: Live, person: Person, ward: dict[str, str]) -> None:
    eligible(live, person, "break-glass", keys=[ward["key"]])
    hands = [person, *(Person(live, person.name) for _ in range(5))]
    with ThreadPoolExecutor(6) as crowd:
        answers = list(crowd.map(broken, hands))
    made = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert len(made) == 1
    finished(live, person, made[0])


@pytest.mark.requirement("R16")
def test_reading_database_and_lists_does_not_tell_who_may_break_the_glass(own_live: Live, tmp_path: Path) -> None:
    live = own_live
    live.create_key("ward")
    person = Person(live, "dr-quiet-eligible")
    live.post(f"/v1/credentials/{person.credential}/revoke", "operator")
    start = len(live.get("/v1/audit/events", "auditor", params={"limit": "1000"}).json()["events"])
    made = eligible(live, person, "break-glass", keys=["ward"])
    event = live.get("/v1/audit/events", "auditor", params={"from": str(start), "limit": "1000"}).json()["events"]
    assert person.name not in str([e for e in event if e["op"] == "eligibility-create"])
    assert person.name not in live.get("/v1/eligibilities", "operator").text
    for who in ("custodian", "auditor"):
        assert [e["principal"] for e in live.get("/v1/eligibilities", who).json()["eligibilities"]] == [person.name]
    assert live.post(f"/v1/eligibilities/{made['id']}/revoke", "operator").status_code == 404
    found = stored_rows(live.home, live.database)
    issues = {row["event"] for row in found["acts"] if row["action"] == "credential-issue"}
    for table, rows in found.items():
        if table in ("principals", "credentials"):  # that the person exists is no secret
            continue
        for row in rows:
            known = table == "acts" and row["event"] in issues
            early = table in ("segments", "journal") and row["first"] < start  # of the one node, which numbers as the log does
            assert known or early or person.name not in str(row), table


@pytest.mark.requirement("R16")
def test_without_a_reference_only_where_the_eligibility_says_so(live: Live, person: Person, ward: dict[str, str]) -> None:
    eligible(live, person, "break-glass", keys=[ward["key"]])
    assert broken(person, reference="").status_code == 400
    ward_wide = Person(live)
    eligible(live, ward_wide, "break-glass", keys=[ward["key"]], reference=False)
    answer = broken(ward_wide, reference="")
    assert answer.status_code == 201
    assert [read(ward_wide, ward, patient).status_code for patient in ("p-1", "p-2")] == [200, 200]
    finished(live, ward_wide, answer.json()["id"])
    again = broken(ward_wide, reference="p-2")  # given all the same, it binds
    assert [read(ward_wide, ward, patient).status_code for patient in ("p-1", "p-2")] == [403, 200]
    finished(live, ward_wide, again.json()["id"])


@pytest.mark.requirement("R16")
def test_breaking_the_glass_takes_the_place_of_a_role_taken_on(live: Live, person: Person, ward: dict[str, str]) -> None:
    eligible(live, person, "break-glass", keys=[ward["key"]])
    refused = live.post("/v1/eligibilities", "custodian", {"principal": person.name, "role": "operator"})
    assert refused.status_code == 409  # who manages keys does not read records
    assert refused.json()["code"] == "separation_of_duties"


@pytest.mark.requirement("R16", "R13")
def test_another_tenant_knows_nothing_of_it(live: Live, person: Person, ward: dict[str, str]) -> None:
    made = eligible(live, person, "break-glass", keys=[ward["key"]])
    elevation = broken(person).json()["id"]
    tenant = live.post("/v1/tenants", "custodian", {"name": f"associate-{next(_number)}"})
    assert tenant.status_code == 201, tenant.text
    theirs = {c["role"]: c["token"] for c in tenant.json()["credentials"]}
    assert live.get("/v1/elevations", theirs["auditor"]).json()["elevations"] == []
    assert live.get("/v1/alarms", theirs["auditor"]).json()["alarms"] == []
    assert live.get("/v1/eligibilities", theirs["custodian"]).json()["eligibilities"] == []
    assert live.post(f"/v1/elevations/{elevation}/end", theirs["custodian"]).status_code == 404
    assert live.post(f"/v1/eligibilities/{made['id']}/revoke", theirs["custodian"]).status_code == 404
    finished(live, person, elevation)


# ---- what must survive ----------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R16", "R36")
def test_kill_nine_keeps_roles_alarms_and_what_waits_for_review(own_live: Live) -> None:
    live = own_live
    live.create_key("ward")
    app = live.token(["encrypt"], ["ward"])
    sealed = live.post("/v1/keys/ward/encrypt", app, {"plaintext": PLAIN, "context": {"patient": "p-1"}}).json()["ciphertext"]
    ward, person, shift = {"key": "ward", "p-1": sealed}, Person(live), Person(live)
    eligible(live, person, "break-glass", keys=["ward"])
    eligible(live, shift, "operator")
    elevation = broken(person).json()["id"]
    assert elevate(shift).status_code == 201
    live.kill()
    live.restart(unseal=False)
    assert shift.whoami()["elevation"]["role"] == "operator"
    assert live.get("/v1/credentials", shift.token).status_code == 200
    assert read(person, ward, "p-1").status_code == 503  # sealed
    assert live.get("/v1/alarms", "auditor").json()["alarms"][0]["elevation"] == elevation
    assert person.post(f"/v1/elevations/{elevation}/end").status_code == 200  # what takes rights away works sealed
    live.unseal()
    assert read(person, ward, "p-1").status_code in (403, 404)
    assert broken(person).status_code == 403  # still to be reviewed


@pytest.mark.requirement("R10", "R31")
def test_a_role_that_policy_guards_is_taken_on_with_approval(live: Live, person: Person) -> None:
    """Asked for by the person, signed by another, executed by the person: the role is then theirs, on the session that executed."""
    eligible(live, person, "operator")
    asked = {"role": "operator", "reason": "incident 14", "minutes": 5}
    alone = live.post("/v1/elevations/approved", person.token, asked, alone=True)
    assert (alone.status_code, alone.json()["code"]) == (403, "approval_required")
    request = {"operation": "elevate-approved", "ref": "", "request": asked, "reason": "on call"}
    made = person.post("/v1/approvals", request)
    assert made.status_code == 201, made.text
    approval = made.json()["id"]
    assert person.post(f"/v1/approvals/{approval}/execute", alone=True).json()["code"] == "approval_required"
    assert live.get(f"/v1/approvals/{approval}", Person(live).token).status_code == 404  # not theirs to see
    assert live.approver("auditor").sign(approval)[0] == 200
    other = Person(live, person.name)
    assert Person(live).post(f"/v1/approvals/{approval}/execute").status_code == 403
    done = other.post(f"/v1/approvals/{approval}/execute")
    assert done.status_code == 200, done.text
    assert [result.get("error") for result in done.json()["results"]] == [None]
    assert (person.whoami()["role"], other.whoami()["role"]) == ("person", "operator")
    assert person.post(f"/v1/approvals/{approval}/execute").status_code == 409  # once


@pytest.mark.requirement("R10", "R31")
def test_nobody_becomes_eligible_by_a_signature_of_their_own(live: Live) -> None:
    auditor = str(live.get("/v1/whoami", "auditor").json()["principal"])
    held = lambda: [e["id"] for e in live.get("/v1/eligibilities", "auditor").json()["eligibilities"]]  # noqa: E731
    before = held()
    asked = {"principal": auditor, "role": "auditor"}
    request = {"operation": "eligibility-create", "ref": "", "request": asked, "reason": "why not"}
    made = live.post("/v1/approvals", "custodian", request).json()["id"]
    status, answer = live.approver("auditor").sign(made)
    assert (status, "themselves" in answer["detail"]) == (403, True)
    assert live.post(f"/v1/approvals/{made}/execute", "custodian", alone=True).json()["code"] == "approval_required"
    assert held() == before

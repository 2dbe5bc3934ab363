"""The policy over REST: plan, apply, explain, test, simulate, who-can; and what must not get through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.live import Live, launch
from tests.policies import Signer, digest

pytestmark = [pytest.mark.requirement("R31"), pytest.mark.requirement("R10")]

HIDE = """
@id("research-is-sealed")
forbid (principal, action, resource in Tag::"study=closed");
"""
WARD = """
@id("ward-decrypts")
@context("ward=3|4; patient=*")
permit (principal == Workload::"ward-app", action == Action::"decrypt", resource in Tag::"ward=yes")
when { context.purpose == "treatment" };
"""


@dataclass
class House:
    """A server of its own whose first people have enrolled what signs."""

    live: Live
    signers: dict[str, Signer] = field(default_factory=dict)

    def files(self, **more: str) -> dict[str, str]:
        """Return the bundle in force with further Cedar files."""
        now = dict(self.live.get("/v1/policy", "auditor").json()["files"])
        return {**now, **{f"{name}.cedar": text for name, text in more.items()}}

    def apply(self, files: dict[str, str], by: str = "custodian", **changes: Any) -> httpx.Response:
        """Apply a bundle, signed."""
        return self.live.post("/v1/policy/apply", by, self.signers[by].request(files, **changes))

    def ask(self, what: str, body: dict[str, Any], by: str = "auditor") -> dict[str, Any]:
        """Ask a question about the policy."""
        answer = self.live.post(f"/v1/policy/{what}", by, body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    live = launch(tmp_path_factory.mktemp("policy"))
    house = House(live)
    house.signers = {role: Signer(live, live.tokens[role]) for role in ("custodian", "operator", "auditor")}
    yield house
    live.stop()


def test_a_policy_is_planned_applied_and_decides(house: House) -> None:
    live = house.live
    live.create_key("study-1", tags={"study": "closed"})
    app = live.token(["encrypt"], ["study-*"])
    assert live.post("/v1/keys/study-1/encrypt", app, {"plaintext": "AAAA"}).status_code == 200
    files = house.files(study=HIDE)
    plan = house.ask("plan", {"files": files})
    assert [one["id"] for one in plan["policies"]] == ["research-is-sealed"]
    assert plan["proposed"] == digest(files).hex()
    assert not plan["same"] and not plan["refused"]
    lost = [one for one in plan["changes"] if one["effect"] == "loses" and "key-read" in one["operations"]]
    assert lost and "study-1" in lost[0]["keys"]
    assert not [one for one in plan["changes"] if one["effect"] == "gains"]
    applied = house.apply(files)
    assert applied.status_code == 200, applied.text
    assert applied.json()["revision"] == plan["revision"] + 1
    answer = live.post("/v1/keys/study-1/encrypt", app, {"plaintext": "AAAA"})
    assert answer.status_code == 404
    assert house.ask("plan", {"files": files})["same"]
    again = house.apply(files)
    assert again.json()["code"] == "refused"
    [event] = live.get("/v1/audit/events?operation=policy-apply&outcome=ok", "auditor").json()["events"]
    assert event["detail"]["added"] == "research-is-sealed"
    assert event["detail"]["digest"] == digest(files).hex()
    assert event["detail"]["signed_with"] == house.signers["custodian"].authenticator


def test_the_event_names_the_deciding_policy(house: House) -> None:
    live = house.live
    live.create_key("ward-1", tags={"ward": "yes"})
    house.apply(house.files(ward=WARD))
    app = live.post("/v1/credentials", "operator", {
        "principal": "ward-app", "role": "application", "ttl_seconds": 600,
        "scope": {"operations": ["encrypt"], "keys": ["ward-1"], "context": {}},
    }).json()["token"]  # fmt: skip
    context = {"ward": "3", "patient": "p"}
    sealed = live.post("/v1/keys/ward-1/encrypt", app, {"plaintext": "AAAA", "context": context}).json()["ciphertext"]
    body = {"ciphertext": sealed, "context": context}
    purpose = {"keyclave-purpose": "treatment"}
    done = live.post("/v1/keys/ward-1/decrypt", app, body, headers=purpose)
    assert done.status_code == 200, done.text
    assert live.post("/v1/keys/ward-1/decrypt", app, body).status_code == 404  # no purpose was declared
    wrong = {"ciphertext": sealed, "context": {"ward": "5", "patient": "p"}}
    refused = live.post("/v1/keys/ward-1/decrypt", app, wrong, headers=purpose)
    assert refused.status_code == 403 and "'ward'" in refused.json()["detail"]
    key = live.get("/v1/keys/ward-1", "auditor").json()["id"]
    events = live.get(f"/v1/audit/events?operation=decrypt&key={key}&outcome=ok", "auditor").json()["events"]
    assert [event["policy"] for event in events] == ["ward-decrypts"]


def test_apply_refuses_what_it_should(house: House) -> None:
    files = house.files(more='@id("more")\nforbid (principal, action == Action::"seal", resource) when { context.aal > 5 };')
    stale = house.apply(files, expected=0)
    assert stale.status_code == 412
    alone = house.live.post("/v1/policy/apply", "custodian", house.signers["custodian"].request(files), alone=True)
    assert alone.status_code == 403 and alone.json()["code"] == "approval_required"  # a signature of one's own is none of others
    other = house.signers["operator"].request(files)["signature"]
    assert house.apply(files, signature=other).status_code == 403
    changed = {**files, "more.cedar": files["more.cedar"].replace("5", "6")}
    assert house.apply(changed, signature=house.signers["custodian"].request(files)["signature"]).status_code == 403
    assert house.live.post("/v1/policy/apply", "auditor", house.signers["auditor"].request(files)).status_code == 403
    broken = {**files, "more.cedar": '@id("more")\nforbid (principal, action, resource) when { context.approvals < 2 };'}
    answer = house.apply(broken)
    assert answer.status_code == 400 and "more" in answer.json()["detail"]
    assert house.ask("plan", {"files": house.files()})["same"]  # nothing of it came in force


@pytest.mark.parametrize(
    "cedar",
    [
        '@id("no-more")\nforbid (principal, action == Action::"policy-apply", resource);',
        '@id("no-more")\nforbid (principal, action in Action::"manage", resource) unless { context.purpose == "never" };',
        '@id("no-more")\nforbid (principal in Role::"custodian", action, resource);\n'
        '@id("nor-they")\nforbid (principal in Role::"operator", action, resource);',
    ],
)
def test_a_policy_that_locks_everybody_out_is_refused_with_advice(house: House, cedar: str) -> None:
    answer = house.apply(house.files(lock=cedar))
    assert answer.status_code == 403
    assert "lock everybody out" in answer.json()["detail"] and "policy-apply" in answer.json()["hint"]
    assert house.ask("plan", {"files": house.files(lock=cedar)})["refused"]


def test_rules_that_need_more_approvers_than_there_are_are_refused(house: House) -> None:
    files = house.files()
    rules = files["rules.toml"] + '\n[[sensitive]]\noperations = ["policy-apply"]\ncount = 9\nfresh_minutes = 0\n'
    answer = house.apply({**files, "rules.toml": rules})
    assert answer.status_code == 403 and "needs 9 of" in answer.json()["hint"]


def test_changing_the_policy_waits_for_another_though_no_rule_says_so(house: House) -> None:
    files = house.files()
    rules = files["rules.toml"].replace('"policy-apply", ', "")
    found = house.ask(
        "explain", {"files": {**files, "rules.toml": rules}, "principal": "first-custodian", "operation": "policy-apply"}
    )
    assert found["approval"] == {"count": 1, "roles": ["custodian", "operator", "auditor"], "hours": 24, "assurance": 1}


def test_explain_says_why(house: House) -> None:
    house.live.create_key("plain-1")
    good = house.ask("explain", {"principal": "first-operator", "operation": "rotate", "key": "plain-1"})
    assert good["allowed"] and [one["id"] for one in good["decided_by"]] == ["operator-duties"]
    duty = house.ask("explain", {"principal": "first-operator", "operation": "encrypt", "key": "plain-1"})
    assert not duty["allowed"] and "not a duty" in duty["why"]
    forbidden = {"principal": "first-operator", "operation": "rotate", "new_key": {"tags": {"study": "closed"}}}
    refused = house.ask("explain", {**forbidden, "files": house.files(study=HIDE)})
    assert not refused["allowed"] and [one["id"] for one in refused["decided_by"]] == ["research-is-sealed"]
    assert "forbid" in refused["decided_by"][0]["text"]
    nobody = house.live.post("/v1/policy/explain", "auditor", {"principal": "nobody-here", "operation": "seal"})
    assert nobody.status_code == 404
    sensitive = house.ask("explain", {"principal": "first-custodian", "operation": "destroy", "key": "plain-1"})
    assert sensitive["approval"]["count"] == 2


def test_cases_are_run_and_differences_said(house: House) -> None:
    cases = [
        {"name": "operators rotate", "principal": "new", "duty": "operator", "operation": "rotate", "new_key": {}, "allow": True},
        {"name": "auditors do not", "principal": "new", "duty": "auditor", "operation": "rotate", "new_key": {}, "allow": False},
        {"name": "destroying waits", "principal": "new", "duty": "custodian", "operation": "destroy", "new_key": {}, "allow": True,
         "approvers": 2},
        {"name": "apps by scope", "principal": "new", "duty": "application", "operation": "encrypt", "new_key": {}, "scoped": True,
         "allow": True, "policy": "built-in"},
        {"name": "wrong", "principal": "new", "duty": "auditor", "operation": "log-read", "allow": False},
    ]  # fmt: skip
    found = house.ask("test", {"cases": cases})
    assert [one["passed"] for one in found["outcomes"]] == [True, True, True, True, False], found
    assert not found["passed"] and found["failed"] == 1
    assert "expected to be refused" in found["outcomes"][-1]["said"]


def test_a_proposed_policy_is_tried_on_the_calls_of_the_last_days(house: House) -> None:
    live = house.live
    live.create_key("trial-1", tags={"trial": "one"})
    app = live.token(["encrypt", "mac"], ["trial-1"])
    for ward in ("7", "8"):
        answer = live.post("/v1/keys/trial-1/encrypt", app, {"plaintext": "AAAA", "context": {"ward": ward}})
        assert answer.status_code == 200
    me = live.get("/v1/whoami", app).json()["principal"]
    forbid = '@id("no-trials")\nforbid (principal, action == Action::"encrypt", resource in Tag::"trial=one");'
    found = house.ask("simulate", {"files": house.files(trial=forbid), "days": 1})
    [group] = [one for one in found["groups"] if one["key"] == "trial-1"]
    assert group | {"first": "", "last": ""} == {
        "effect": "refused", "actor": me, "operation": "encrypt", "key": "trial-1", "policies": ["no-trials"], "calls": 2,
        "first": "", "last": "",
    }  # fmt: skip
    assert found["complete"] and found["refused"] >= 2
    same = house.ask("simulate", {"files": house.files(), "days": 1})
    assert same["refused"] == same["allowed"] == same["perhaps"] == 0 and same["judged"] > 0
    unsure = '@id("sure")\nforbid (principal in Role::"operator", action == Action::"credential-issue", resource) when { !context.fresh };'
    perhaps = house.ask("simulate", {"files": house.files(sure=unsure), "days": 1})
    assert {one["effect"] for one in perhaps["groups"]} == {"perhaps-refused"}


def test_a_simulation_says_what_it_could_not_judge_and_why(house: House) -> None:
    live = house.live
    live.create_key("trial-3")
    app = live.token(["decrypt"], ["other"])
    for _ in range(3):  # refused without a word of the key, in the record too
        assert live.post("/v1/keys/trial-3/encrypt", app, {"plaintext": "AAAA"}).status_code == 404
    assert live.get("/v1/whoami", app).status_code == 200
    found = house.ask("simulate", {"files": house.files(), "days": 1})
    why = {one["operation"]: (one["calls"], one["why"]) for one in found["unjudged"]}
    assert why["encrypt"][0] >= 3 and "names no key" in why["encrypt"][1]
    assert "no policy is asked" in why["authenticator-enrol"][1]
    assert [one["calls"] for one in found["unjudged"]] == sorted((one["calls"] for one in found["unjudged"]), reverse=True)
    foreign = live.post("/v1/tenants", "custodian", {"name": "simulated-elsewhere"}).json()["credentials"]
    theirs = next(one["token"] for one in foreign if one["role"] == "operator")
    alone = live.post("/v1/policy/simulate", theirs, {"files": house.files(), "days": 1}).json()
    assert "encrypt" not in {one["operation"] for one in alone["unjudged"]}  # what others do is not for them to know


def test_a_simulation_compares_contexts_that_the_log_keeps_as_hashes(house: House) -> None:
    live = house.live
    live.create_key("trial-2", tags={"trial": "two"})
    app = live.token(["mac"], ["trial-2"])
    me = live.get("/v1/whoami", app).json()["principal"]

    def permit(wards: str) -> str:
        return (
            f'@id("by-ward")\n@context("ward={wards}")\n'
            f'permit (principal == Workload::"{me}", action == Action::"encrypt", resource in Tag::"trial=two");'
        )

    assert house.apply(house.files(ward2=permit("7|8"))).status_code == 200
    done = live.post("/v1/keys/trial-2/encrypt", app, {"plaintext": "AAAA", "context": {"ward": "7"}})
    assert done.status_code == 200, done.text
    for wards, effects in (("7", set()), ("9", {"refused"}), ("*", set())):
        found = house.ask("simulate", {"files": house.files(ward2=permit(wards)), "days": 1})
        assert {one["effect"] for one in found["groups"] if one["actor"] == me} == effects, wards


def test_who_can_names_everybody_and_by_what(house: House) -> None:
    live = house.live
    live.create_key("asked-1", tags={"ward": "yes"})
    app = live.token(["decrypt"], ["asked-*"], {"patient": ["*"]})
    me = live.get("/v1/whoami", app).json()["principal"]
    grant = {"grantee": me, "operations": ["mac"], "keys": ["asked-1"], "ttl_seconds": 600, "uses": 3, "purposes": ["research"]}
    made = live.post("/v1/grants", "operator", grant).json()["id"]
    house.apply(house.files(ward=WARD))
    found = live.get("/v1/who-can?operation=decrypt&key=asked-1", "auditor").json()
    by_name = {one["principal"]: one for one in found["can"]}
    assert by_name[me]["by"][0].startswith("scope of crd_") and by_name[me]["context"] == [{"patient": ["*"]}]
    ward = by_name["ward-app"]
    assert ward["by"] == ["ward-decrypts"] and ward["when"] == "when purpose treatment"
    assert ward["context"] == [{"patient": ["*"], "ward": ["3", "4"]}]
    assert not {"first-custodian", "first-operator", "first-auditor"} & by_name.keys()
    macs = live.get("/v1/who-can?operation=mac&key=asked-1", "auditor").json()
    [mine] = [one for one in macs["can"] if one["principal"] == me]
    assert mine["by"] == [f"grant {made}"] and "3 uses left" in mine["when"] and "purpose research" in mine["when"]
    destroy = live.get("/v1/who-can?operation=destroy&key=asked-1", "auditor").json()
    assert {one["principal"] for one in destroy["can"]} >= {"first-custodian"} and destroy["approval"]["count"] == 2
    assert all(one["duty"] == "custodian" for one in destroy["can"])


def test_whoever_may_not_know_of_a_key_learns_nothing_of_it_here(house: House) -> None:
    live = house.live
    live.create_key("secret-1", tags={"secret": "yes"})
    hide = '@id("hidden")\nforbid (principal in Role::"operator", action == Action::"key-read", resource in Tag::"secret=yes");'
    assert house.apply(house.files(hidden=hide)).status_code == 200
    for path in ("/v1/who-can?operation=encrypt&key={}",):
        real, absent = (live.get(path.format(key), "operator") for key in ("secret-1", "secret-0"))
        assert real.status_code == absent.status_code == 404 and _same(real, absent)
        assert live.get(path.format("secret-1"), "auditor").status_code == 200
    asked = {"principal": "first-custodian", "operation": "rotate"}
    real, absent = (live.post("/v1/policy/explain", "operator", {**asked, "key": key}) for key in ("secret-1", "secret-0"))
    assert real.status_code == absent.status_code == 404 and _same(real, absent)


def test_the_policy_in_force_survives_a_restart(house: House) -> None:
    live = house.live
    live.create_key("kept-1", tags={"study": "closed"})
    before = live.get("/v1/policy", "auditor").json()
    live.kill()
    live.restart()
    after = live.get("/v1/policy", "auditor").json()
    assert (after["revision"], after["digest"]) == (before["revision"], before["digest"])
    app = live.token(["encrypt"], ["kept-1"])
    assert live.post("/v1/keys/kept-1/encrypt", app, {"plaintext": "AAAA"}).status_code == 404
    revisions = live.get("/v1/policy/revisions", "auditor").json()["revisions"]
    assert [one["revision"] for one in revisions] == list(range(after["revision"], 0, -1))
    first = live.get("/v1/policy?revision=1", "auditor").json()
    assert "ward.cedar" not in first["files"] and first["revision"] == 1


def _same(one: httpx.Response, other: httpx.Response) -> bool:
    return {**one.json(), "event": ""} == {**other.json(), "event": ""}

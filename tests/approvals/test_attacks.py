"""What must not make an approval: oneself, twice, replays, changed parameters, people who no longer count, races."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.approvals.ward import Ward
from tests.approving import Approver

_number = itertools.count()


def code(answer: Any) -> str:
    return str(answer.json().get("code", "ok"))


def sign(ward: Ward, approval: str, who: str, statement: str, signature: str) -> Any:
    return ward.post(f"/v1/approvals/{approval}/sign", who, {"statement": statement, "signature": signature})


def fresh(ward: Ward, role: str) -> str:
    """Return the token of a new person with an enrolled key."""
    body = {"principal": f"new-{role}-{next(_number)}", "role": role, "ttl_seconds": 3600}
    token = str(ward.live.post("/v1/credentials", "custodian", body).json()["token"])
    ward.live.approver(token)
    return token


@pytest.mark.requirement("R15", "R31")
def test_the_requester_does_not_count(ward: Ward, doomed: str) -> None:
    approval = ward.ask(doomed)["id"]
    status, answer = ward.live.approver("second").sign(approval)
    assert (status, answer["code"], "requester" in answer["detail"]) == (403, "refused", True)


@pytest.mark.requirement("R31")
def test_nobody_counts_twice_not_even_with_another_key(ward: Ward, doomed: str) -> None:
    approval = ward.ask(doomed)["id"]
    ward.sign(approval, "operator")
    status, answer = ward.live.approver("operator").sign(approval)
    assert (status, answer["code"]) == (409, "conflict")
    assert ward.show(approval)["status"] == "pending"


@pytest.mark.requirement("R15", "R31")
def test_roles_that_the_rule_does_not_name_do_not_count(ward: Ward, doomed: str) -> None:
    approval = ward.ask(doomed)["id"]
    status, answer = ward.live.approver("auditor").sign(approval)
    assert (status, "none of the roles" in answer["detail"]) == (403, True)
    assert code(ward.post(f"/v1/approvals/{approval}/deny", "auditor", {"reason": "no"})) == "refused"
    app = ward.live.token(["encrypt"], ["*"])
    assert code(ward.post(f"/v1/approvals/{approval}/begin", app, {})) == "refused"


@pytest.mark.requirement("R31")
@pytest.mark.parametrize("change", ["version", "reason", "key", "operation", "if_match"])
def test_changed_parameters_are_refused_and_use_nothing_up(ward: Ward, doomed: str, change: str) -> None:
    approval = ward.approved(doomed, if_match=ward.live.get(f"/v1/keys/{doomed}", "custodian").json()["rev"])
    path, body = f"/v1/keys/{doomed}/destroy", {"version": 1, "reason": "over"}
    headers = {"keyclave-approval": approval}
    if change == "version":
        body["version"] = None  # it would destroy the same version, and is not what was approved
    elif change == "reason":
        body["reason"] = "other"
    elif change == "key":
        path = f"/v1/keys/{ward.doomed(doomed + '-other')}/destroy"
    elif change == "operation":
        path, body = "/v1/credentials", {"principal": "x", "role": "auditor", "ttl_seconds": 600}
    else:
        headers["if-match"] = '"999"'
    refused = ward.post(path, "second", body, headers=headers)
    assert (refused.status_code, code(refused)) == (403, "refused"), refused.text
    assert ward.show(approval)["status"] == "approved"
    assert ward.execute(approval).status_code == 200


@pytest.mark.requirement("R31")
def test_a_key_renamed_into_place_is_not_what_was_approved(ward: Ward, doomed: str) -> None:
    made = ward.ask(doomed)
    (item,) = made["items"]
    assert (item["ref"].startswith("key_"), item["label"]) == (True, doomed)
    assert doomed in made["canonical"] and item["ref"] in made["canonical"]


@pytest.mark.requirement("R31")
def test_a_revision_that_moved_on_is_not_what_was_approved(ward: Ward, doomed: str) -> None:
    rev = ward.live.get(f"/v1/keys/{doomed}", "custodian").json()["rev"]
    approval = ward.approved(doomed, if_match=rev)
    moved = ward.live.request("PATCH", f"/v1/keys/{doomed}", "custodian", json={"owner": "radiology"})
    assert moved.status_code == 200
    done = ward.execute(approval)
    assert (done.status_code, done.json()["results"][0]["error"]["code"]) == (200, "stale_revision")
    assert (ward.show(approval)["status"], ward.state(doomed)) == ("executed", "deactivated")


@pytest.mark.requirement("R31")
def test_only_whoever_asked_executes_it(ward: Ward, doomed: str) -> None:
    approval = ward.approved(doomed)
    for who in ("third", "operator", "custodian"):
        assert code(ward.execute(approval, who)) == "refused"
    body = {"version": 1, "reason": "over"}
    answer = ward.post(f"/v1/keys/{doomed}/destroy", "third", body, headers={"keyclave-approval": approval})
    assert code(answer) == "refused"
    assert ward.execute(approval).status_code == 200


@pytest.mark.requirement("R31")
def test_a_signature_is_good_for_one_request_alone(ward: Ward, doomed: str) -> None:
    """The same act, asked for twice: the hashes differ, so what was signed for one does not serve the other."""
    first, second = ward.ask(doomed)["id"], ward.ask(doomed)["id"]
    operator = ward.live.approver("operator")
    statement = operator.statement(first)
    signature = operator.signature(statement)
    assert code(sign(ward, second, "operator", statement, signature)) == "refused"
    assert sign(ward, first, "operator", statement, signature).status_code == 200
    assert code(sign(ward, first, "operator", statement, signature)) == "conflict"


@pytest.mark.requirement("R31")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("approver", "first-custodian"), ("at", 1), ("authenticator", "aut_aaaaaaaaaaaaaaaaaaaaaaaaaa"), ("decision", "deny"),
        ("format", "keyclave/approval/2"), ("request", "0" * 64), ("tenant", "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"), ("extra", "x"),
    ],
)  # fmt: skip
def test_a_statement_with_a_changed_field_is_refused_though_its_signature_is_right(
    ward: Ward, doomed: str, field: str, value: Any
) -> None:
    approval, operator = ward.ask(doomed)["id"], ward.live.approver("operator")
    said = {**json.loads(operator.statement(approval)), field: value}
    statement = json.dumps(said, sort_keys=True, separators=(",", ":"))
    answer = sign(ward, approval, "operator", statement, operator.signature(statement))
    assert code(answer) in ("refused", "malformed"), answer.text
    assert ward.show(approval)["signatures"] == []


@pytest.mark.requirement("R31")
def test_another_spelling_another_key_or_no_signature_is_refused(ward: Ward, doomed: str) -> None:
    approval, operator = ward.ask(doomed)["id"], ward.live.approver("operator")
    statement = operator.statement(approval)
    spaced = json.dumps(json.loads(statement), sort_keys=True)
    assert code(sign(ward, approval, "operator", spaced, operator.signature(spaced))) == "malformed"
    stranger = Approver(operator.send, operator.token, ec.generate_private_key(ec.SECP256R1()))
    assert code(sign(ward, approval, "operator", statement, stranger.signature(statement))) == "refused"
    assert code(sign(ward, approval, "operator", statement, base64.b64encode(b"0" * 70).decode())) == "refused"
    assert code(ward.post(f"/v1/approvals/{approval}/sign", "operator", {"statement": statement})) == "malformed"
    other = ward.live.approver("custodian")
    assert (
        code(sign(ward, approval, "operator", other.statement(approval), other.signature(other.statement(approval)))) == "refused"
    )


@pytest.mark.requirement("R31")
def test_an_approver_disabled_between_signing_and_execution_does_not_count(ward: Ward, doomed: str) -> None:
    approval, token = ward.ask(doomed)["id"], fresh(ward, "operator")
    ward.sign(approval, "custodian")
    assert ward.live.approver(token).sign(approval)[0] == 200
    name = ward.live.get("/v1/whoami", token).json()["principal"]
    assert ward.show(approval)["status"] == "approved"
    assert ward.post(f"/v1/people/{name}/disable", "operator", {"reason": "left"}).status_code == 200
    refused = ward.execute(approval)
    assert (code(refused), "disabled" in refused.json()["detail"]) == ("approval_required", True)
    assert ward.state(doomed) == "deactivated"
    ward.sign(approval, "operator")  # another one signs in their place
    assert ward.execute(approval).status_code == 200


@pytest.mark.requirement("R31")
def test_a_revoked_authenticator_does_not_count(ward: Ward, doomed: str) -> None:
    approval, token = ward.ask(doomed)["id"], fresh(ward, "operator")
    ward.sign(approval, "custodian")
    approver = ward.live.approver(token)
    assert approver.sign(approval)[0] == 200
    gone = ward.post(f"/v1/authenticators/{approver.authenticator}/revoke", "custodian", {"reason": "lost"})
    assert gone.status_code == 200, gone.text
    refused = ward.execute(approval)
    assert (code(refused), "revoked" in refused.json()["detail"]) == ("approval_required", True)
    status, answer = approver.sign(ward.ask(doomed)["id"])
    assert (status, answer["code"]) == (403, "refused")


@pytest.mark.requirement("R31")
def test_a_requester_whose_credential_is_revoked_executes_nothing(ward: Ward, doomed: str) -> None:
    token = fresh(ward, "custodian")
    approval = ward.ask(doomed, token)["id"]
    ward.sign(approval, "custodian", "operator")
    credential = ward.live.get("/v1/whoami", token).json()["credential"]
    assert ward.post(f"/v1/credentials/{credential}/revoke", "operator", {"reason": "left"}).status_code == 200
    assert ward.execute(approval, token).status_code == 401
    assert ward.state(doomed) == "deactivated"


@pytest.mark.requirement("R31")
def test_denied_and_withdrawn_requests_approve_nothing_and_say_why(ward: Ward, doomed: str) -> None:
    denied = ward.approved(doomed)
    assert code(ward.post(f"/v1/approvals/{denied}/deny", "second", {"reason": "no"})) == "separation_of_duties"  # one's own
    assert code(ward.post(f"/v1/approvals/{denied}/deny", "night", {"reason": ""})) == "malformed"
    assert ward.post(f"/v1/approvals/{denied}/deny", "night", {"reason": "still needed"}).status_code == 200
    assert code(ward.execute(denied)) == "wrong_state"
    shown = ward.show(denied)
    assert (shown["status"], shown["ended_by"], shown["ended_why"]) == ("denied", "night", "still needed")
    taken = ward.approved(doomed)
    assert code(ward.post(f"/v1/approvals/{taken}/withdraw", "operator", {})) == "refused"
    assert ward.post(f"/v1/approvals/{taken}/withdraw", "second", {"reason": "not yet"}).status_code == 200
    assert code(ward.execute(taken)) == "wrong_state"
    status, answer = ward.live.approver("night").sign(taken)
    assert (status, answer["code"]) == (409, "wrong_state")


@pytest.mark.requirement("R31")
def test_of_two_approvers_and_two_executions_that_race_one_wins(ward: Ward, doomed: str) -> None:
    approval = ward.ask(doomed)["id"]
    ward.sign(approval, "custodian")
    outcomes: list[int] = []
    both = threading.Barrier(8)

    def race(act: Any) -> None:
        both.wait()
        outcomes.append(act())

    signers = [lambda who=who: ward.live.approver(who).sign(approval)[0] for who in ("operator", "night", "third", "third")]
    runs = [lambda: ward.execute(approval).status_code for _ in range(4)]
    threads = [threading.Thread(target=race, args=(act,)) for act in (*signers, *runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if ward.show(approval)["status"] != "executed":
        outcomes.append(ward.execute(approval).status_code)
    events = ward.live.get("/v1/audit/events?operation=destroy&limit=1000", "auditor").json()["events"]
    done = [event for event in events if event.get("approval") == approval and event["outcome"] == "ok"]
    assert len(done) == 1
    names = [one["approver"] for one in ward.show(approval)["signatures"]]
    assert len(names) == len(set(names)) >= 2


@pytest.mark.requirement("R31")
def test_a_batch_lists_every_item_and_the_one_that_fails_is_reported(ward: Ward, doomed: str) -> None:
    keys = [doomed, ward.doomed(f"{doomed}-b"), ward.doomed(f"{doomed}-c")]
    items = [{"ref": key, "request": {"version": 1, "reason": "over"}} for key in keys]
    made = ward.post("/v1/approvals", "second", {"operation": "destroy", "reason": "end of retention", "items": items}).json()
    assert [item["label"] for item in made["items"]] == keys
    ward.sign(made["id"], "custodian", "operator")
    single = ward.post(
        f"/v1/keys/{doomed}/destroy", "second", {"version": 1, "reason": "over"}, headers={"keyclave-approval": made["id"]}
    )
    assert code(single) == "refused"
    assert ward.post(f"/v1/keys/{keys[1]}/cancel-destruction", "operator", {"version": 1, "reason": "needed"}).status_code == 200
    done = ward.execute(made["id"]).json()["results"]
    assert [one["error"]["code"] if one["error"] else "ok" for one in done] == ["ok", "wrong_state", "ok"]
    assert [ward.state(key) for key in keys] == ["destroyed", "deactivated", "destroyed"]
    assert code(ward.execute(made["id"])) == "wrong_state"  # used up, the failed item too


@pytest.mark.requirement("R31")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"operation": "rotate", "ref": "KEY", "request": {}}, "refused"),  # needs no approval
        ({"operation": "nothing", "ref": "KEY"}, "malformed"),
        ({"operation": "approval-sign", "ref": "KEY"}, "malformed"),
        ({"operation": "destroy", "ref": "absent", "request": {"version": 1}}, "unknown"),
        ({"operation": "destroy", "request": {"version": 1}}, "malformed"),
        ({"operation": "destroy", "ref": "KEY", "request": {"versoin": 1}}, "malformed"),
        ({"operation": "destroy", "ref": "KEY", "items": [{"ref": "KEY"}]}, "malformed"),
        ({"operation": "destroy", "items": [{"ref": "KEY"}, {"ref": "KEY"}]}, "malformed"),
        ({"operation": "tenant-create", "ref": "KEY", "request": {"name": "x"}}, "malformed"),
    ],
)
def test_what_cannot_be_asked_for(ward: Ward, doomed: str, asked: dict[str, Any], expected: str) -> None:
    body = json.loads(json.dumps({**asked, "reason": "why not"}).replace('"KEY"', f'"{doomed}"'))
    assert code(ward.post("/v1/approvals", "second", body)) == expected


def test_a_requester_asks_only_for_what_they_may_do(ward: Ward, doomed: str) -> None:
    body = {"operation": "destroy", "ref": doomed, "request": {"version": 1}, "reason": "why not"}
    assert code(ward.post("/v1/approvals", "operator", body)) == "refused"


def test_another_tenants_request_is_none(ward: Ward, doomed: str) -> None:
    made = ward.live.post("/v1/tenants", "custodian", {"name": f"clinic-{next(_number)}"}).json()
    theirs = {one["role"]: one["token"] for one in made["credentials"]}
    approval = ward.approved(doomed)
    for path, body in (
        ("sign", {"statement": "{}", "signature": ""}),
        ("begin", {}),
        ("deny", {"reason": "no"}),
        ("execute", {}),
    ):
        answer = ward.post(f"/v1/approvals/{approval}/{path}", theirs["custodian"], body)
        assert code(answer) in ("unknown", "malformed"), path
    assert ward.live.get(f"/v1/approvals/{approval}", theirs["auditor"]).status_code == 404
    assert ward.live.get("/v1/approvals", theirs["auditor"]).json()["approvals"] == []


@pytest.mark.parametrize("named", ["apr_aaaaaaaaaaaaaaaaaaaaaaaaaa", "apr_", "x", "apr_" + "A" * 26])
def test_an_approval_that_does_not_exist_opens_nothing(ward: Ward, doomed: str, named: str) -> None:
    body = {"version": 1, "reason": "over"}
    answer = ward.post(f"/v1/keys/{doomed}/destroy", "second", body, headers={"keyclave-approval": named})
    assert code(answer) == "unknown"
    assert ward.execute(named).status_code == 404


def test_a_rehearsal_uses_nothing_up(ward: Ward, doomed: str) -> None:
    approval = ward.approved(doomed)
    rehearsed = ward.post(f"/v1/approvals/{approval}/execute?dry_run=true", "second", {})
    assert (rehearsed.status_code, rehearsed.headers["keyclave-dry-run"]) == (200, "true")
    assert (ward.show(approval)["status"], ward.state(doomed)) == ("approved", "deactivated")
    assert ward.execute(approval).status_code == 200


def test_an_execution_repeated_with_its_idempotency_key_is_answered_with_the_first(ward: Ward) -> None:
    asked = {
        "operation": "credential-issue", "reason": "a new auditor",
        "request": {"principal": f"idem-{next(_number)}", "role": "auditor", "ttl_seconds": 600},
    }  # fmt: skip
    approval = ward.post("/v1/approvals", "custodian", asked).json()["id"]
    ward.sign(approval, "operator")
    headers = {"idempotency-key": f"once-{next(_number)}"}
    first, second = (ward.execute(approval, "custodian", headers=headers) for _ in range(2))
    token = first.json()["results"][0]["answer"]["token"]
    assert (second.json(), second.headers["idempotent-replayed"]) == (first.json(), "true")
    assert ward.live.get("/v1/whoami", token).json()["role"] == "auditor"
    assert code(ward.execute(approval, "custodian")) == "wrong_state"

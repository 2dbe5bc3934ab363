"""Separation of duties as data: rules that a policy adds, held over the acts of the same thing, at the act and at approval."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from keyclave.core.errors import Malformed
from keyclave.operations.apart import OVER, over
from keyclave.operations.revisions import kinds
from keyclave.operations.table import OPERATIONS
from keyclave.policy.apart import LEAST_APART, Act, in_force
from keyclave.policy.bundle import standard
from keyclave.policy.duties import DUTIES
from keyclave.policy.read_rules import read_rules
from keyclave.store.access.acts import read_acts
from tests.approvals.test_rules_now import Ward
from tests.live import Live
from tests.policies import apply_request
from tests.protocols.inside import inside
from tests.stored import REFUSED

KNOWN = {name: kind.over for name, kind in kinds(OPERATIONS).items()}
pytestmark = pytest.mark.requirement("R10", "R15", "R31")


def rule(**parts: Any) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in parts.items()]
    return "\n[[apart]]\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with inside(tmp_path_factory.mktemp("apart")) as made:
        yield Ward(made)


@pytest.fixture
def ward(server: Ward) -> Iterator[Ward]:
    yield server
    server.rules()


def made_key(ward: Ward, name: str, by: str = "custodian") -> None:
    assert ward.send("/v1/keys", "", by, {"name": name, "owner": "o"})[0] == 201


def doomed(ward: Ward, name: str, by: str) -> None:
    """Have a key's first version deactivated, and its destruction scheduled by somebody."""
    made_key(ward, name, "third")
    assert ward.send("/v1/keys/{key}/deactivate", name, "operator", {"reason": "over"})[0] == 200
    schedule(ward, name, by)


def schedule(ward: Ward, name: str, by: str) -> None:
    asked = {"version": 1, "days": 0, "reason": "end of retention"}
    assert ward.send("/v1/keys/{key}/schedule-destruction", name, by, asked)[0] == 200


def test_the_standard_table_says_what_is_built_in() -> None:
    for people in ("passkeys", "tokens"):
        rules = read_rules(standard(people=people).rules, KNOWN)
        assert rules.apart == LEAST_APART
        assert in_force(rules.apart) == LEAST_APART


def test_a_bundle_without_the_table_is_held_to_what_is_built_in(ward: Ward) -> None:
    files = standard(people="tokens").files
    bare = files["rules.toml"][: files["rules.toml"].index("[[apart]]")]
    assert in_force(read_rules(bare, KNOWN).apart) == LEAST_APART
    doomed(ward, "bare", "second")
    ward.rules()
    status, answer = ward.ask("bare")
    assert (status, answer["code"]) == (409, "separation_of_duties")


def test_a_schedule_that_was_cancelled_holds_nobody_apart(ward: Ward) -> None:
    doomed(ward, "again", "second")
    assert ward.send("/v1/keys/{key}/cancel-destruction", "again", "operator", {"version": 1})[0] == 200
    schedule(ward, "again", "third")
    approval = ward.ask("again")[1]["id"]
    for who in ("custodian", "operator"):
        assert ward.sign(approval, who)[0] == 200
    assert ward.execute(approval)[0] == 200


def test_who_created_a_key_never_destroys_it_and_who_rotated_it_never_approves(ward: Ward) -> None:
    ward.rules(
        more=rule(first=["key-create", "key-import"], then=["destroy"], over="key", why="who made a key keeps off its end")
        + rule(first=["deactivate"], approve=["destroy"], over="key-version")
    )
    made_key(ward, "own", "second")
    assert ward.send("/v1/keys/{key}/deactivate", "own", "night", {"reason": "over"})[0] == 200
    schedule(ward, "own", "third")
    status, answer = ward.ask("own")
    assert (status, answer["code"], answer["detail"]) == (409, "separation_of_duties", "who made a key keeps off its end")
    doomed(ward, "others", "third")  # `operator` deactivated this one
    approval = ward.ask("others")[1]["id"]
    status, answer = ward.sign(approval, "operator")
    assert (status, "deactivate on this key-version" in answer["detail"]) == (403, True)
    for who in ("custodian", "night"):
        assert ward.sign(approval, who)[0] == 200
    assert ward.execute(approval)[0] == 200


def test_a_rule_that_comes_after_the_signature_and_an_act_that_does_count_at_the_execution(ward: Ward) -> None:
    apart = rule(first=["suspend", "deactivate"], approve=["destroy"], over="key")
    doomed(ward, "late", "third")
    approval = ward.ask("late")[1]["id"]
    for who in ("custodian", "operator"):
        assert ward.sign(approval, who)[0] == 200
    ward.rules(more=apart)
    status, answer = ward.execute(approval)
    assert (status, answer["code"]) == (403, "approval_required")
    assert "1 of 2" in answer["detail"]
    assert "whoever did suspend or deactivate" in answer["detail"]
    ward.rules()
    ward.rules(more=rule(first=["key-update"], approve=["destroy"], over="key"))
    assert ward.server.ask("PATCH", "/v1/keys/{key}", ward.tokens["custodian"], b'{"owner":"p"}', ref="late")[0] == 200
    status, answer = ward.execute(approval)  # the custodian signed first and changed the key afterwards
    assert (status, answer["code"]) == (403, "approval_required")
    assert ward.sign(approval, "night")[0] == 200
    assert ward.execute(approval)[0] == 200


def test_who_invited_a_person_does_not_approve_what_is_given_to_them(ward: Ward) -> None:
    ward.rules(more=rule(first=["invitation-create"], approve=["privilege-grant"], over="person", why="who let them in"))
    invited = {"principal": "newly-come", "role": "person"}
    assert ward.send("/v1/invitations", "", "night", invited)[0] == 201
    asked = {"operation": "invitation-create", "request": {"principal": "newly-come", "role": "auditor"}, "reason": "joins us"}
    approval = ward.send("/v1/approvals", "", "custodian", asked)[1]["id"]
    status, answer = ward.sign(approval, "night")
    assert (status, "who let them in" in answer["detail"]) == (403, True)
    assert ward.sign(approval, "operator")[0] == 200


def test_invitations_are_confirmed_by_somebody_else_in_every_way(ward: Ward) -> None:
    made = ward.send("/v1/invitations", "", "night", {"principal": "to-confirm", "role": "person"})[1]["id"]
    path = "/v1/invitations/{invitation}/confirm"
    assert ward.send(path, made, "night", {})[1]["code"] == "separation_of_duties"
    asked = {"operation": "invitation-confirm", "ref": made, "request": {}, "reason": "why"}
    assert ward.send("/v1/approvals", "", "night", asked)[0] in (403, 409)
    assert ward.send(path, made, "operator", {})[0] == 200


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (rule(first=["key-create"], then=["backup"], over="key"), "'backup', which does not exist"),
        (rule(first=["share-give"], then=["destroy"], over="key"), "'share-give', which does not exist"),
        (rule(first=["key-create"], over="key"), "keeps nothing apart"),
        (rule(first=["key-create"], then=["destroy"], over="ward"), "over"),
        (rule(first=["key-create"], then=["person-disable"], over="key"), "changes no key"),
        (rule(first=["key-create"], then=["encrypt"], over="key"), "changes no key"),
        (rule(first=["key-read"], then=["destroy"], over="key"), "changes no key"),
        (rule(first=["self"], then=["destroy"], over="key"), "self"),
        (rule(first=[], then=["destroy"], over="key"), "first"),
        (rule(first=["key-create"], then=["destroy"], over="key", undone_by=["key-create"]), "undo itself"),
        (rule(first=["approval-request"], then=["approval-execute"], over="approval"), "nobody else executes"),
        (rule(first=["policy-apply"], then=["policy-apply"], over="approval"), "changes no approval"),
        (rule(first=["key-create"], then=["destroy"], over="key", sometimes=True), "sometimes"),
    ],
)
def test_rules_that_could_not_hold_or_would_lock_everybody_out_are_refused(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read_rules(text, KNOWN)


def test_what_rules_can_be_over_names_operations_that_there_are() -> None:
    assert OVER.keys() <= DUTIES.keys()
    on_keys = {op.name for op in OPERATIONS if op.on_key and op.changes}
    assert all(over(op) for op in OPERATIONS if op.name in on_keys)


def test_acts_are_kept_with_the_act_and_never_change(ward: Ward) -> None:
    made_key(ward, "kept")
    refused = ward.send("/v1/keys/{key}/rotate", "kept", "auditor", {})
    assert refused[0] == 403
    key = json.loads(ward.server.ask("GET", "/v1/keys/{key}", ward.tokens["custodian"], ref="kept")[1])["id"]
    assert ward.send("/v1/keys/{key}/rotate", "kept", "operator", {})[0] == 200
    for subject, kind in ((key, "key"), (f"{key}:1", "key-version")):
        acts = ward.server.store.read(
            lambda conn, on=(kind, subject): read_acts(conn, ward.tenant, *on, {"key-create", "key-import", "rotate"})
        )
        assert acts[0] == Act("key-create", "first-custodian")
    rows = ward.server.raw("SELECT kind, subject, action, principal FROM acts WHERE subject LIKE ?", f"{key}%")
    assert ("key", key, "rotate", "first-operator") in rows
    assert "key-create" not in {action for _, _, action, _ in rows}  # the key's own row says that
    for statement in ("UPDATE acts SET principal = 'x'", "DELETE FROM acts"):
        with pytest.raises(REFUSED, match="append-only"):
            ward.server.raw(statement)
    for change in ("created_by = 'x'", "made_in = NULL", "created_at = 1", "id = 'key_other'"):
        with pytest.raises(REFUSED, match="how it was made is not changed"):
            ward.server.raw(f"UPDATE keys SET {change} WHERE id = ?", key)
    with pytest.raises(REFUSED, match="how it was made is not changed"):
        ward.server.raw("UPDATE key_versions SET origin = 'imported' WHERE key_id = ?", key)


def test_validation_names_the_rule_and_of_two_acts_at_once_the_second_is_refused(own_live: Live) -> None:
    """Both are sent before either is answered: the record is read in the transaction, so neither slips past the other."""
    files = dict(standard(people="tokens").files)
    wrong = {**files, "rules.toml": files["rules.toml"] + rule(first=["key-create"], then=["backup"], over="key")}
    found = own_live.post("/v1/policy/validate", "auditor", {"files": wrong}).json()
    assert (found["valid"], "'backup', which does not exist" in found["findings"][0]) == (False, True)
    files["rules.toml"] += rule(first=["suspend"], then=["compromise"], over="key")
    files["rules.toml"] += rule(first=["compromise"], then=["suspend"], over="key")
    applied = own_live.post("/v1/policy/apply", "custodian", apply_request(own_live, files, own_live.tokens["custodian"]))
    assert applied.status_code == 200, applied.text
    for number in range(8):
        own_live.create_key(f"raced-{number}")
        both = threading.Barrier(2)

        def act(verb: str, key: str = f"raced-{number}", both: threading.Barrier = both) -> int:
            both.wait()
            return own_live.post(f"/v1/keys/{key}/{verb}", "custodian", {"reason": "leak"}).status_code

        with ThreadPoolExecutor(2) as crowd:
            done = list(crowd.map(act, ("suspend", "compromise")))
        assert sorted(done) == [200, 409]


def test_explanations_and_reviews_show_who_is_held_off_and_why(live: Live) -> None:
    live.create_key("asked-about")
    assert live.post("/v1/keys/asked-about/deactivate", "operator", {"reason": "over"}).status_code == 200
    scheduled = {"version": 1, "days": 30, "reason": "end of retention"}
    asked = {"principal": "first-custodian", "operation": "destroy", "key": "asked-about"}
    before = live.post("/v1/policy/explain", "auditor", asked).json()
    assert (before["allowed"], before["apart"][0]["first"], before["apart"][0]["side"]) == (
        True,
        ["schedule-destruction"],
        "then",
    )
    assert live.post("/v1/keys/asked-about/schedule-destruction", "custodian", scheduled).status_code == 200
    after = live.post("/v1/policy/explain", "auditor", asked).json()
    assert (after["allowed"], after["why"]) == (False, "who scheduled a destruction does not perform it")
    found = live.get("/v1/who-can", "auditor", params={"operation": "destroy", "key": "asked-about"}).json()
    assert "first-custodian" not in [one["principal"] for one in (*found["can"], *found["could"])]
    assert [one["principal"] for one in found["barred"]] == ["first-custodian"]
    assert live.post("/v1/keys/asked-about/cancel-destruction", "operator", {"version": 1}).status_code == 200
    found = live.get("/v1/who-can", "auditor", params={"operation": "destroy", "key": "asked-about"}).json()
    assert "first-custodian" in [one["principal"] for one in found["can"]]
    assert found["barred"] == []

"""What changes between asking and executing: the rule, the window, the level that is asked; and rules that nobody can meet."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from keyclave.core.errors import Malformed
from keyclave.policy.bundle import Bundle, standard
from keyclave.policy.decision import ApprovalRule
from keyclave.policy.rules import Rules
from tests.protocols.inside import Inside, inside
from tests.stored import REFUSED

HOUR = 3600 * 1_000_000
DESTROY = 'classes = ["destruction", "export"]\ncount = 2\nroles = ["custodian", "operator"]\nhours = 24'
_number = itertools.count()


class Ward:
    """An in-process server whose rules can be changed at once."""

    def __init__(self, server: Inside) -> None:
        self.server = server
        self.tokens = {"custodian": server.tokens["custodian"], "operator": server.tokens["operator"]}
        self.tokens |= {name: server.issue(name, role, ttl=86_400 * 30)[1] for name, role in PEOPLE.items()}
        self.tenant = server.desk.callers.authenticate(self.tokens["custodian"].encode()).tenant
        for who in self.tokens:
            server.approvers.of(self.tokens[who])
        self.rules()

    def rules(self, destroy: str = DESTROY, more: str = "", elevating: str = "[]", **replaced: str) -> None:
        """Put the standard rules in force, with another rule for destruction and other lines."""
        files = dict(standard(people="tokens").files)
        text = files["rules.toml"].replace(DESTROY, destroy) + more
        text = text.replace("approval_roles = []", f"approval_roles = {elevating}")
        for old, new in replaced.items():
            text = text.replace(f"{old} = 1 ", f"{old} = {new} ")
        revisions = self.server.desk.access.revisions
        compiled = revisions.compiler.compile(Bundle(files={**files, "rules.toml": text}))
        revisions.put(self.tenant, next(_number) + 2, compiled)

    def send(self, path: str, ref: str, who: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        method, text = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        status, answer = self.server.ask(method, path, self.tokens[who], text, ref=ref)
        return status, dict(json.loads(answer))

    def asked(self) -> str:
        name = f"key-{next(_number)}"
        assert self.send("/v1/keys", "", "custodian", {"name": name, "owner": "o"})[0] == 201
        assert self.send("/v1/keys/{key}/deactivate", name, "operator", {"reason": "over"})[0] == 200
        scheduled = {"version": 1, "days": 0, "reason": "end of retention"}
        assert self.send("/v1/keys/{key}/schedule-destruction", name, "custodian", scheduled)[0] == 200
        status, made = self.ask(name)
        assert status == 201, made
        return str(made["id"])

    def ask(self, key: str) -> tuple[int, dict[str, Any]]:
        body = {"operation": "destroy", "ref": key, "request": {"version": 1, "reason": "over"}, "reason": "over"}
        return self.send("/v1/approvals", "", "second", body)

    def sign(self, approval: str, who: str) -> tuple[int, dict[str, Any]]:
        return self.server.approvers.of(self.tokens[who]).sign(approval)

    def execute(self, approval: str) -> tuple[int, dict[str, Any]]:
        return self.send("/v1/approvals/{approval}/execute", approval, "second", {})

    def show(self, approval: str) -> dict[str, Any]:
        return self.send("/v1/approvals/{approval}", approval, "operator")[1]


PEOPLE = {"second": "custodian", "third": "custodian", "night": "operator", "auditor": "auditor"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with inside(tmp_path_factory.mktemp("rules")) as made:
        yield Ward(made)


@pytest.fixture
def ward(server: Ward) -> Iterator[Ward]:
    began = server.server.desk.clock._ahead  # type: ignore[attr-defined]
    yield server
    server.rules()
    server.server.desk.clock._ahead = began  # type: ignore[attr-defined]


def wait(ward: Ward, hours: float) -> None:
    ward.server.desk.clock._ahead += int(hours * HOUR)  # type: ignore[attr-defined]


@pytest.mark.requirement("R31")
def test_a_larger_count_holds_for_what_is_open(ward: Ward) -> None:
    approval = ward.asked()
    for who in ("custodian", "operator"):
        assert ward.sign(approval, who)[0] == 200
    assert ward.show(approval)["status"] == "approved"
    ward.rules(DESTROY.replace("count = 2", "count = 3"))
    status, answer = ward.execute(approval)
    assert (status, answer["code"], "2 of 3" in answer["detail"]) == (403, "approval_required", True)
    assert (ward.show(approval)["status"], ward.show(approval)["needed"]) == ("pending", 3)
    assert ward.sign(approval, "night")[0] == 200
    assert ward.execute(approval)[0] == 200


@pytest.mark.requirement("R31")
def test_a_smaller_count_changes_nothing_for_what_is_open(ward: Ward) -> None:
    approval = ward.asked()
    ward.rules(DESTROY.replace("count = 2", "count = 1"))
    assert ward.sign(approval, "custodian")[0] == 200
    assert ward.execute(approval)[1]["code"] == "approval_required"
    ward.rules(DESTROY.replace('"destroy"', '"seal"'))  # no rule for it at all any more: what was asked keeps its own
    assert ward.execute(approval)[1]["code"] == "approval_required"
    assert ward.sign(approval, "operator")[0] == 200
    assert ward.execute(approval)[0] == 200


@pytest.mark.requirement("R31")
def test_approvers_must_fit_both_rules(ward: Ward) -> None:
    approval = ward.asked()
    for who in ("custodian", "operator"):
        assert ward.sign(approval, who)[0] == 200
    ward.rules(DESTROY.replace('["custodian", "operator"]', '["custodian", "auditor"]'))
    status, answer = ward.execute(approval)
    assert (status, "first-operator: holds none" in answer["detail"]) == (403, True)
    assert ward.sign(approval, "auditor")[0] == 403  # fits the new rule, not the one that was asked under
    assert ward.sign(approval, "third")[0] == 200
    assert ward.execute(approval)[0] == 200


@pytest.mark.requirement("R31")
def test_nested_roles_count_as_what_they_are_nested_in(ward: Ward) -> None:
    roles = '\n[roles.senior]\nduty = "custodian"\n[roles.chief]\nduty = "custodian"\nparents = ["senior"]\n'
    ward.rules(DESTROY.replace('count = 2\nroles = ["custodian", "operator"]', 'count = 1\nroles = ["senior"]'), roles)
    approval = ward.asked()
    assert ward.sign(approval, "third")[0] == 403  # a custodian, and no senior one
    body = {"give": ["chief"], "take": [], "reason": "promoted"}
    asked = {"operation": "person-roles", "ref": "third", "request": body, "reason": "promoted"}
    given = ward.send("/v1/approvals", "", "custodian", asked)[1]["id"]
    assert ward.sign(given, "operator")[0] == 200
    assert ward.send("/v1/approvals/{approval}/execute", given, "custodian", {})[0] == 200
    assert ward.sign(approval, "third")[0] == 200
    taken = {"give": [], "take": ["chief"], "reason": "over"}
    assert ward.send("/v1/people/{person}/roles", "third", "custodian", taken)[0] == 200
    assert ward.execute(approval)[1]["code"] == "approval_required"  # the role was taken away between signing and execution


@pytest.mark.requirement("R31")
@pytest.mark.parametrize(("hours_then", "hours_now"), [(24, 24), (24, 1), (1, 24)])
def test_the_window_closes_by_the_shorter_rule(ward: Ward, hours_then: int, hours_now: int) -> None:
    ward.rules(DESTROY.replace("hours = 24", f"hours = {hours_then}"))
    approval = ward.asked()
    for who in ("custodian", "operator"):
        assert ward.sign(approval, who)[0] == 200
    ward.rules(DESTROY.replace("hours = 24", f"hours = {hours_now}"))
    wait(ward, min(hours_then, hours_now) - 0.01)
    assert ward.show(approval)["status"] == "approved"
    wait(ward, 0.02)
    assert ward.show(approval)["status"] == "expired"
    status, answer = ward.execute(approval)
    assert (status, answer["code"], "window" in answer["detail"]) == (409, "wrong_state", True)
    assert ward.sign(approval, "night")[1]["code"] == "wrong_state"


@pytest.mark.requirement("R31", "R30")
def test_a_key_too_weak_for_what_is_sensitive_does_not_sign_and_does_not_count(ward: Ward) -> None:
    approval = ward.asked()
    for who in ("custodian", "operator"):
        assert ward.sign(approval, who)[0] == 200
    ward.rules(sensitive="3")
    status, answer = ward.execute(approval)
    assert status == 403, answer
    ward.rules()
    assert ward.execute(approval)[0] == 200
    other = ward.asked()
    ward.rules(sensitive="3")
    status, answer = ward.sign(other, "custodian")
    assert (status, "assurance level" in answer["detail"]) == (403, True)


@pytest.mark.requirement("R31")
@pytest.mark.parametrize("rule", [ApprovalRule(count=1, roles=()), ApprovalRule(count=0, roles=("custodian",))])
def test_a_rule_that_nobody_can_meet_means_no(ward: Ward, monkeypatch: pytest.MonkeyPatch, rule: ApprovalRule) -> None:
    """No bundle has such a rule; should one ever hold, what no factor applies to is refused, not waved through."""
    approval = ward.asked()
    for who in ("custodian", "operator"):
        assert ward.sign(approval, who)[0] == 200
    monkeypatch.setattr(Rules, "approval", lambda _rules, operation: rule if operation == "destroy" else None)
    ward.server.desk.access.revisions.put(ward.tenant, next(_number) + 2, ward.server.desk.access.revisions.of(ward.tenant))
    ward.server.desk.callers.forget(ward.tenant, "second")
    status, answer = ward.execute(approval)
    assert (status, answer["code"], "nobody" in answer["detail"]) == (403, "refused", True)
    status, answer = ward.ask(ward.show(approval)["items"][0]["ref"])
    assert (status, answer["code"], "nobody" in answer["detail"]) == (403, "refused", True)


@pytest.mark.requirement("R31")
def test_two_rules_that_share_no_role_are_no_policy(ward: Ward) -> None:
    other = '\nfresh_minutes = 0\n\n[[sensitive]]\noperations = ["destroy"]\ncount = 1\nroles = ["auditor"]\nhours = 24'
    with pytest.raises(Malformed, match="no role in common"):
        ward.rules(DESTROY + other)


@pytest.mark.requirement("R31")
def test_what_lies_in_the_database_names_nobody_and_cannot_be_rewritten(ward: Ward) -> None:
    approval, raw = ward.asked(), ward.server.raw
    assert ward.sign(approval, "operator")[0] == 200
    ((kept,),) = raw("SELECT canonical FROM approvals WHERE id = ?", approval)
    assert b"end of retention" not in kept and b"key_" not in kept
    for statement in (
        "UPDATE approvals SET canonical = digest",
        "UPDATE approvals SET digest = (SELECT digest FROM credentials LIMIT 1)",
        "UPDATE approvals SET expires_at = expires_at + 1",
        "UPDATE approvals SET requester = 'nobody'",
        "DELETE FROM approvals",
        "UPDATE approval_signatures SET approver = 'third'",
        "DELETE FROM approval_signatures",
        f"INSERT INTO approval_signatures SELECT approval, 'second', authenticator, statement, proof, signed_at, event "
        f"FROM approval_signatures WHERE approval = '{approval}'",
        f"INSERT INTO approval_signatures SELECT approval, approver, authenticator, statement, proof, signed_at, event "
        f"FROM approval_signatures WHERE approval = '{approval}'",
    ):
        with pytest.raises(REFUSED):
            raw(statement)
    assert ward.sign(approval, "custodian")[0] == 200
    assert ward.execute(approval)[0] == 200
    for statement in (
        "UPDATE approvals SET ending = NULL, ended_at = NULL, ended_by = NULL, ended_event = NULL",
        "UPDATE approvals SET ending = 'denied'",
    ):
        with pytest.raises(REFUSED):
            raw(statement + f" WHERE id = '{approval}'")


@pytest.mark.requirement("R31")
def test_a_signature_slipped_into_the_database_does_not_count(ward: Ward) -> None:
    """Whoever can write the file still has no key: every signature is verified again."""
    approval = ward.asked()
    assert ward.sign(approval, "operator")[0] == 200
    forged = ward.server.approvers.of(ward.tokens["third"]).authenticator
    ward.server.raw(
        "INSERT INTO approval_signatures SELECT approval, 'third', ?, replace(replace(statement, 'first-operator', 'third'), "
        "authenticator, ?), proof, signed_at, event FROM approval_signatures WHERE approval = ?",
        forged, forged, approval,
    )  # fmt: skip
    status, answer = ward.execute(approval)
    assert (status, "third: the signature does not verify" in answer["detail"]) == (403, True)


@pytest.mark.requirement("R15", "R31")
def test_a_role_that_policy_names_is_taken_on_with_anothers_approval(ward: Ward) -> None:
    """The person has no duty of their own: they ask, somebody approves, and the role belongs to the session that executes."""
    token = ward.server.issue(f"person-{next(_number)}", "person", ttl=86_400)[1]
    ward.tokens["guest"] = token
    name = ward.server.desk.callers.authenticate(token.encode()).principal
    eligible = {"operation": "eligibility-create", "request": {"principal": name, "role": "operator"}, "reason": "on call"}
    made = ward.send("/v1/approvals", "", "custodian", eligible)[1]["id"]
    assert ward.sign(made, "operator")[0] == 200
    assert ward.send("/v1/approvals/{approval}/execute", made, "custodian", {})[0] == 200
    wanted = {"role": "operator", "reason": "incident 12", "minutes": 20}
    asked = {"operation": "elevate-approved", "request": wanted, "reason": "incident 12"}
    ward.rules(elevating='["operator"]')
    assert ward.send("/v1/elevations", "", "guest", wanted)[1]["code"] == "approval_required"
    status, waiting = ward.send("/v1/approvals", "", "guest", asked)
    assert status == 201, waiting
    assert ward.server.approvers.of(token).sign(waiting["id"])[0] == 403
    assert ward.sign(waiting["id"], "auditor")[0] == 200
    status, done = ward.send("/v1/approvals/{approval}/execute", waiting["id"], "guest", {})
    assert (status, done["results"][0]["error"]) == (200, None), done
    assert ward.server.desk.callers.authenticate(token.encode()).role == "operator"


@pytest.mark.requirement("R29", "R31")
def test_an_application_waits_too_where_policy_says(ward: Ward) -> None:
    """Any operation may be marked, uses of keys too: the application asks, people sign, the application executes."""
    name = f"records-{next(_number)}"
    assert ward.send("/v1/keys", "", "custodian", {"name": name, "owner": "o"})[0] == 201
    scope = f'{{"operations":["encrypt","decrypt"],"keys":["{name}"],"context":{{"patient":["*"]}}}}'
    ward.tokens["app"] = ward.server.issue(f"app-{next(_number)}", "application", scope, ttl=86_400)[1]
    plain = {"plaintext": "cmVjb3Jk", "context": {"patient": "p-1"}}
    sealed = ward.send("/v1/keys/{key}/encrypt", name, "app", plain)[1]["ciphertext"]
    ward.rules(f'operations = ["decrypt"]\n{DESTROY}')
    body = {"ciphertext": sealed, "context": {"patient": "p-1"}}
    assert ward.send("/v1/keys/{key}/decrypt", name, "app", body)[1]["code"] == "approval_required"
    asked = {"operation": "decrypt", "ref": name, "request": body, "reason": "research export"}
    status, made = ward.send("/v1/approvals", "", "app", asked)
    assert status == 201, made
    for who in ("custodian", "operator"):
        assert ward.sign(made["id"], who)[0] == 200
    status, done = ward.send("/v1/approvals/{approval}/execute", made["id"], "app", {})
    assert (status, done["results"][0]["answer"]["plaintext"]) == (200, "cmVjb3Jk")
    assert ward.send("/v1/approvals/{approval}/execute", made["id"], "app", {})[1]["code"] == "wrong_state"
    wrong = {**asked, "request": {**body, "context": {}}}  # the scope asks for a patient: judged again when it is done
    waiting = ward.send("/v1/approvals", "", "app", wrong)[1]["id"]
    for who in ("custodian", "operator"):
        assert ward.sign(waiting, who)[0] == 200
    status, done = ward.send("/v1/approvals/{approval}/execute", waiting, "app", {})
    assert (status, done["results"][0]["error"]["code"]) == (200, "refused")

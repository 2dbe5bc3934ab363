"""Who holds a share: named, told in the record, and kept apart from other duties when named, when given, and at use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from keyclave.core.errors import Malformed
from keyclave.identity.roles import Role
from keyclave.operations.revisions import kinds
from keyclave.operations.table import OPERATIONS
from keyclave.policy.bundle import Bundle, standard
from keyclave.policy.lockout import Holder, way_back
from keyclave.policy.reach import Subject
from keyclave.policy.read_rules import read_rules
from keyclave.store.access import shares
from tests import postgres
from tests.approvals.test_apart import rule
from tests.approvals.test_rules_now import Ward
from tests.protocols.inside import inside

KNOWN = {name: kind.over for name, kind in kinds(OPERATIONS).items()}
HOLDERS = "/v1/shares/holders"
WHY = "a backup and the shares that open it are never in one hand"
pytestmark = pytest.mark.requirement("R10", "R15", "R34")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """The ward, over each of the two stores."""
    folder = tmp_path_factory.mktemp("holders")
    with ExitStack() as stack:
        url = stack.enter_context(postgres.new_database()).url() if request.param == "postgresql" else ""
        yield Ward(stack.enter_context(inside(folder, at_once=True, url=url)))


@pytest.fixture
def ward(server: Ward) -> Iterator[Ward]:
    """The ward with nobody of it holding a share or a role beside their duty, under the standard rules."""
    yield server
    server.rules()
    for one in server.send("/v1/eligibilities", "", "auditor")[1]["eligibilities"]:
        server.send("/v1/eligibilities/{eligibility}/revoke", one["id"], "custodian", {"reason": "over"})
    assert server.send("/v1/people/{person}/roles", "night", "custodian", {"take": ["backup-operator"]})[0] == 200
    assert name(server, "auditor")[1].get("code") in (None, "refused")  # named, or named already


def granted(ward: Ward, operation: str, path: str, ref: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Do something as the first custodian with the approval of the night's operator, or of whoever else may approve it."""
    asked = {"operation": operation, "ref": ref, "request": body, "reason": "as planned"}
    status, made = ward.send("/v1/approvals", "", "custodian", asked)
    if status != 201:
        return status, made
    if not any(ward.sign(made["id"], who)[0] == 200 for who in ("third", "operator")):
        return 403, {"code": "unsigned"}
    sent = ward.server.ask("POST", path, ward.tokens["custodian"], json.dumps(body).encode(), ref=ref, approval=made["id"])
    return sent[0], dict(json.loads(sent[1]))


def name(ward: Ward, principal: str, share: int = 1) -> tuple[int, dict[str, Any]]:
    return granted(ward, "share-holder-name", HOLDERS, "", {"share": share, "principal": principal})


def give(ward: Ward, person: str, role: str = "backup-operator") -> tuple[int, dict[str, Any]]:
    return granted(ward, "person-roles", "/v1/people/{person}/roles", person, {"give": [role]})


def test_a_holder_is_named_by_two_people_and_the_history_stays(ward: Ward) -> None:
    body = {"share": 1, "principal": "night"}
    status, answer = ward.send(HOLDERS, "", "custodian", body)
    assert (status, answer["code"]) == (403, "approval_required")
    status, made = name(ward, "night")
    assert (status, made["principal"], made["named_by"]) == (201, "night", "first-custodian")
    assert made["approval"].startswith("apr_")
    assert name(ward, "second")[0] == 201
    status, listed = ward.send(HOLDERS, "", "auditor")
    assert status == 200
    assert (listed["shares"], listed["threshold"]) == (1, 1)
    assert [one["principal"] for one in listed["holders"]] == ["second"]
    assert [one["principal"] for one in listed["history"]][-2:] == ["night", "second"]
    assert listed["history"][-2]["record"] == made["event"]
    whoami = ward.send("/v1/whoami", "", "second")[1]
    assert "share-holder" in whoami["roles"]
    assert "share-holder" not in ward.send("/v1/whoami", "", "night")[1]["roles"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"share": 2, "principal": "night"}, "unknown"),
        ({"share": 1, "principal": "nobody-here"}, "unknown"),
        ({"share": 17, "principal": "night"}, "malformed"),
        ({"share": 0, "principal": "night"}, "malformed"),
        ({"share": 1, "principal": ""}, "malformed"),
    ],
)
def test_what_cannot_be_named(ward: Ward, body: dict[str, Any], code: str) -> None:
    before = ward.send(HOLDERS, "", "auditor")[1]
    assert granted(ward, "share-holder-name", HOLDERS, "", body)[1]["code"] == code
    assert ward.send(HOLDERS, "", "auditor")[1]["history"] == before["history"]


def test_only_custodians_name_and_nobody_holds_what_they_hold_already(ward: Ward) -> None:
    body = {"share": 1, "principal": "third"}
    for who in ("operator", "auditor"):
        assert ward.send(HOLDERS, "", who, body)[1]["code"] == "refused"
    assert name(ward, "third")[0] == 201
    assert name(ward, "third")[1]["code"] == "refused"


# ---- share holder and backup operator, as the standard bundle has it -----------------------------------------------------
def test_whoever_runs_backups_is_not_named_as_a_holder(ward: Ward) -> None:
    assert give(ward, "night")[0] == 200
    status, answer = name(ward, "night")
    assert (status, answer["code"]) == (409, "separation_of_duties")
    assert WHY in answer["detail"]


def test_a_holder_is_given_no_part_in_backups_in_whatever_way(ward: Ward) -> None:
    assert name(ward, "night")[0] == 201
    eligible = {"principal": "night", "role": "backup-operator"}
    invited = {"principal": "night", "role": "operator", "roles": ["backup-operator"]}
    for status, answer in (
        give(ward, "night"),
        granted(ward, "eligibility-create", "/v1/eligibilities", "", eligible),
        granted(ward, "invitation-create", "/v1/invitations", "", invited),
    ):
        assert (status, answer["code"]) == (409, "separation_of_duties")
        assert WHY in answer["detail"]
    assert name(ward, "second")[0] == 201  # the share goes to somebody else, and the role is free again
    assert give(ward, "night")[0] == 200


def test_what_somebody_may_take_on_counts_when_they_are_named(ward: Ward) -> None:
    assert (
        granted(ward, "eligibility-create", "/v1/eligibilities", "", {"principal": "night", "role": "backup-operator"})[0] == 201
    )
    assert name(ward, "night")[1]["code"] == "separation_of_duties"  # what they may take on counts


def test_a_rule_that_comes_later_denies_whoever_holds_both_until_one_is_taken_away(ward: Ward) -> None:
    text = standard(people="tokens").files["rules.toml"]
    exclusive = text[text.index("[[exclusive]]") : text.index("# What one person never does both of:")]
    without(ward, exclusive)
    assert give(ward, "night")[0] == 200
    assert name(ward, "night")[0] == 201
    key = {"name": "kept-apart", "owner": "o"}
    assert ward.send("/v1/keys", "", "custodian", key)[0] == 201
    assert ward.send("/v1/keys/{key}/suspend", "kept-apart", "night", {"reason": "as planned"})[0] == 200
    assert ward.send("/v1/keys/{key}/resume", "kept-apart", "night", {"reason": "as planned"})[0] == 200
    ward.rules()  # a policy that keeps them apart
    for path, ref, body in (
        ("/v1/keys/{key}/suspend", "kept-apart", {"reason": "as planned"}),
        ("/v1/keys", "", None),
        ("/v1/people", "", None),
    ):
        status, answer = ward.send(path, ref, "night", body)
        assert (status, answer["code"], WHY in answer["detail"]) == (409, "separation_of_duties", True)
    assert ward.send("/v1/whoami", "", "night")[0] == 200  # about oneself alone
    assert ward.send("/v1/sessions", "", "night")[0] == 200
    assert ward.server.ask("POST", "/v1/seal", ward.tokens["night"], b"{}", dry_run=True)[0] == 200  # never waits for a quarrel
    asked = ward.asked()
    status, answer = ward.sign(asked, "night")
    assert status == 409
    assert ward.send("/v1/people/{person}/roles", "night", "custodian", {"take": ["backup-operator"]})[0] == 200
    assert ward.send("/v1/keys/{key}/suspend", "kept-apart", "night", {"reason": "as planned"})[0] == 200


def test_a_signature_stops_counting_when_its_giver_comes_to_hold_what_excludes_it(ward: Ward) -> None:
    text = standard(people="tokens").files["rules.toml"]
    exclusive = text[text.index("[[exclusive]]") : text.index("# What one person never does both of:")]
    without(ward, exclusive)
    assert give(ward, "night")[0] == 200
    asked = ward.asked()
    for who in ("custodian", "night"):
        assert ward.sign(asked, who)[0] == 200
    assert name(ward, "night")[0] == 201
    ward.rules()
    status, answer = ward.execute(asked)
    assert (status, answer["code"], "1 of 2" in answer["detail"]) == (403, "approval_required", True)
    assert ward.sign(asked, "operator")[0] == 200
    assert ward.execute(asked)[0] == 200


def without(ward: Ward, text: str) -> None:
    """Put the standard rules in force without some lines."""
    files = dict(standard(people="tokens").files)
    assert text in files["rules.toml"]
    revisions = ward.server.desk.access.revisions
    compiled = revisions.compiler.compile(Bundle(files={**files, "rules.toml": files["rules.toml"].replace(text, "")}))
    revisions.put(ward.tenant, 2, compiled)


def test_a_duty_can_be_kept_from_holders_too(ward: Ward) -> None:
    more = '\n[[exclusive]]\nroles = ["share-holder", "operator"]\nwhy = "who runs it does not open it"\n'
    ward.rules(more=more)
    assert "who runs it" in name(ward, "night")[1]["detail"]
    ward.rules()
    holding = shares.Holding(
        set_id=ward.server.desk.vault.set_id, share=1, tenant=ward.tenant, principal="newly-named", since=1, named_by="ceremony",
        event="e-0",
    )  # fmt: skip
    ward.server.store.write(lambda conn: shares.insert_holding(conn, holding))  # as a ceremony does, before anybody is let in
    ward.rules(more=more)
    for duty, expected in (("operator", 409), ("auditor", 201)):
        issued = {"principal": "newly-named", "role": duty, "ttl_seconds": 600}
        status, answer = granted(ward, "credential-issue", "/v1/credentials", "", issued)
        assert (status, answer.get("code")) == (expected, "separation_of_duties" if expected == 409 else None)


# ---- what holders neither do nor approve ----------------------------------------------------------------------------------
def test_a_holder_neither_does_nor_approves_what_a_rule_lists(ward: Ward) -> None:
    holders = '\n[[apart]]\nholder = true\nthen = ["suspend", "person-roles", "key-list"]\napprove = ["destroy"]\nwhy = "holders keep off"\n'
    assert name(ward, "night")[0] == 201
    ward.rules(more=holders)
    assert ward.send("/v1/keys", "", "custodian", {"name": "kept-off", "owner": "o"})[0] == 201
    suspending = ("/v1/keys/{key}/suspend", "kept-off")
    status, answer = ward.send(*suspending, "night", {"reason": "as planned"})
    assert (status, answer["code"], answer["detail"]) == (409, "separation_of_duties", "holders keep off")
    assert ward.send("/v1/keys", "", "night")[0] == 409  # a rule may name what only reads
    assert ward.send(*suspending, "operator", {"reason": "as planned"})[0] == 200
    asked = ward.asked()
    status, answer = ward.sign(asked, "night")
    assert (status, "holders keep off" in answer["detail"]) == (403, True)
    for who in ("custodian", "operator"):
        assert ward.sign(asked, who)[0] == 200
    assert name(ward, "third")[0] == 201  # the share goes on: what the rule kept is free for the one, and kept from the other
    assert ward.send("/v1/keys/{key}/resume", "kept-off", "night", {"reason": "as planned"})[0] == 200
    assert ward.send(*suspending, "night", {"reason": "as planned"})[0] == 200
    assert ward.execute(asked)[0] == 200
    # under the name that policy gives it too: giving a role is `privilege-grant`, done by `person-roles`
    assert name(ward, "first-custodian")[0] == 201
    status, answer = ward.send("/v1/approvals", "", "custodian", {
        "operation": "person-roles", "ref": "night", "request": {"give": ["backup-operator"]}, "reason": "new",
    })  # fmt: skip
    assert (status, answer["detail"]) == (409, "holders keep off")


def test_a_holder_who_signed_before_they_held_a_share_does_not_count(ward: Ward) -> None:
    ward.rules(more='\n[[apart]]\nholder = true\napprove = ["destroy"]\n')
    asked = ward.asked()
    for who in ("custodian", "night"):
        assert ward.sign(asked, who)[0] == 200
    assert name(ward, "night")[0] == 201
    status, answer = ward.execute(asked)
    assert (status, answer["code"]) == (403, "approval_required")
    assert "holds a share of the root's recovery key" in answer["detail"]


def test_questions_about_the_policy_know_holders(ward: Ward) -> None:
    ward.rules(more='\n[[apart]]\nholder = true\nthen = ["suspend"]\nwhy = "holders keep off"\n')
    assert ward.send("/v1/keys", "", "custodian", {"name": "asked-about", "owner": "o"})[0] == 201
    assert name(ward, "night")[0] == 201
    asked = {"principal": "night", "operation": "suspend", "key": "asked-about"}
    found = ward.send("/v1/policy/explain", "", "auditor", asked)[1]
    assert (found["allowed"], found["why"]) == (False, "holders keep off")
    assert {"side": "then", "first": ["share-holder"], "over": "", "why": "holders keep off"} in found["apart"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rule(holder=True, first=["suspend"], then=["destroy"]), "looks at no act before it"),
        (rule(holder=True, over="key", then=["destroy"]), "looks at no act before it"),
        (rule(holder=True), "keeps nothing apart"),
        (rule(holder=True, then=["backup"]), "does not exist"),
        (rule(then=["destroy"]), "what comes first"),
        (rule(first=["suspend"], then=["destroy"]), "what comes first"),
        ('\n[roles.share-holder]\nduty = "operator"\n', "share is called"),
        ('\n[[sensitive]]\noperations = ["destroy"]\nroles = ["share-holder"]\n', "does not exist"),
    ],
)
def test_rules_over_holders_that_could_not_hold_are_refused(text: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        read_rules(standard(people="tokens").rules + text, KNOWN)


def test_nobody_is_named_whose_signature_on_the_next_policy_is_needed(ward: Ward) -> None:
    """What a share would keep its holder from may be what nobody else is left to do."""
    two = '\n[[sensitive]]\noperations = ["policy-apply"]\ncount = 2\nroles = ["operator"]\nfresh_minutes = 0\n'
    ward.rules(more=two + rule(holder=True, approve=["policy-apply"]))
    status, answer = name(ward, "night")
    assert (status, answer["code"]) == (403, "refused")
    assert "too few people would be left" in answer["detail"]
    assert name(ward, "third")[0] == 201
    ward.rules(more=two)
    assert name(ward, "night")[0] == 201


def test_a_policy_under_which_holders_could_never_change_it_again_is_refused(ward: Ward) -> None:
    people = [
        Holder(subject=Subject(name=f"p{i}", person=True, duty=Role.CUSTODIAN, roles=("share-holder",)), aal=1, signs=2)
        for i in range(3)
    ]
    files = dict(standard(people="tokens").files)
    compiler = ward.server.desk.access.revisions.compiler

    def back(more: str) -> str:
        return way_back(compiler.compile(Bundle(files={**files, "rules.toml": files["rules.toml"] + more})), ward.tenant, people)

    assert back("") == ""
    assert "nobody could change" in back(rule(holder=True, then=["policy-apply"]))
    assert "nobody could change" in back(rule(holder=True, then=["approval-execute"]))
    assert "approve it" in back(rule(holder=True, approve=["policy-apply"]))
    assert "nobody could change" in back('\n[[exclusive]]\nroles = ["share-holder", "custodian"]\n')

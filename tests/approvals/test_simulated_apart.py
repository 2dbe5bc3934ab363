"""A simulation judges duties apart too: which acts and signatures of the past other rules would have kept from whoever did them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from keyclave.operations.policy import replaying_acts
from keyclave.policy.bundle import standard
from tests.approvals.test_apart import rule
from tests.approvals.test_rules_now import Ward
from tests.approvals.test_share_holders import name
from tests.protocols.inside import inside

pytestmark = pytest.mark.requirement("R10", "R15", "R31")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """A ward in which `custodian` made a key and scheduled its end, `operator` and `night` suspended and resumed it in turn, and
    `custodian` and `night`, who came to hold a share before it, approved the end of another."""
    with inside(tmp_path_factory.mktemp("simulated"), at_once=True) as server:
        ward = Ward(server)
        assert ward.send("/v1/keys", "", "custodian", {"name": "first", "owner": "o"})[0] == 201
        for who, move in (("operator", "suspend"), ("night", "resume"), ("night", "suspend"), ("night", "resume")):
            assert ward.send(f"/v1/keys/{{key}}/{move}", "first", who, {"reason": "practice"})[0] == 200
        assert ward.send("/v1/keys/{key}/deactivate", "first", "operator", {"reason": "over"})[0] == 200
        scheduled = {"version": 1, "days": 0, "reason": "end of retention"}
        assert ward.send("/v1/keys/{key}/schedule-destruction", "first", "custodian", scheduled)[0] == 200
        assert name(ward, "night")[0] == 201
        approval = ward.asked()
        for who in ("custodian", "night"):
            assert ward.sign(approval, who)[0] == 200
        assert name(ward, "auditor")[0] == 201
        assert ward.send("/v1/keys/{key}/suspend", "first", "night", {"reason": "after"})[0] in (200, 409)
        yield ward


def simulated(ward: Ward, more: str, without: str = "") -> dict[str, Any]:
    files = dict(standard(people="tokens").files)
    assert without in files["rules.toml"]
    files["rules.toml"] = files["rules.toml"].replace(without, "") + more
    status, found = ward.send("/v1/policy/simulate", "", "auditor", {"files": files, "days": 1})
    assert status == 200, found
    return found


def groups(found: dict[str, Any]) -> list[tuple[str, str, str, str, int]]:
    return sorted((one["effect"], one["actor"], one["operation"], one["policies"][0], one["calls"]) for one in found["groups"])


def test_the_same_rules_change_nothing(ward: Ward) -> None:
    found = simulated(ward, "")
    assert groups(found) == []
    assert not any("apart" in one["why"] for one in found["unjudged"])


def test_an_act_after_another_on_the_same_thing_would_be_refused(ward: Ward) -> None:
    apart = rule(first=["suspend"], then=["resume"], over="key", why="another resumes")
    assert groups(simulated(ward, apart)) == [("refused", "night", "resume", "another resumes", 1)]  # the first was of another's
    undone = rule(first=["suspend"], then=["resume"], over="key", undone_by=["resume"], why="another resumes")
    assert groups(simulated(ward, undone)) == [("refused", "night", "resume", "another resumes", 1)]
    nobody = rule(first=["resume"], then=["suspend"], over="key", why="not twice")
    assert groups(simulated(ward, nobody)) == [("refused", "night", "suspend", "not twice", 1)]
    assert (
        groups(simulated(ward, rule(first=["key-create"], then=["schedule-destruction"], over="key-version", why="w")))
        == [("refused", "first-custodian", "schedule-destruction", "w", 1)] * 2
    )


def test_a_signature_would_not_have_been_given(ward: Ward) -> None:
    """Of an approval the things are those of the act that was asked for, before the signature."""
    apart = rule(first=["schedule-destruction"], approve=["destroy"], over="key", why="who schedules does not approve")
    assert groups(simulated(ward, apart)) == [
        ("refused", "first-custodian", "approval-sign", "who schedules does not approve", 1)
    ]
    assert groups(simulated(ward, rule(first=["deactivate"], approve=["destroy"], over="key"))) == []  # nobody who signed did


def test_whoever_held_a_share_then_would_have_been_kept_from_it(ward: Ward) -> None:
    holders = rule(holder=True, approve=["destroy"], why="holders keep off")
    assert groups(simulated(ward, holders)) == [("refused", "night", "approval-sign", "holders keep off", 1)]
    acting = rule(holder=True, then=["approval-sign"], why="holders sign nothing")
    assert groups(simulated(ward, acting)) == [("refused", "night", "approval-sign", "holders sign nothing", 1)]
    exclusive = '\n[[exclusive]]\nroles = ["share-holder", "operator"]\nwhy = "apart"\n'
    found = {one for one in groups(simulated(ward, exclusive)) if one[1] == "night"}
    assert {(effect, operation) for effect, _, operation, *_ in found} >= {("refused", "approval-sign")}
    assert not any(operation in ("suspend", "resume") for _, _, operation, *_ in found)  # before they held it, or after


def test_what_was_refused_or_has_no_place_is_listed_as_unjudged(ward: Ward) -> None:
    status, answer = ward.ask("first")
    assert status == 201
    approval = answer["id"]
    assert ward.sign(approval, "second")[0] == 403  # who asked
    assert ward.send("/v1/approvals", "", "custodian", {
        "operation": "destroy", "ref": "first", "request": {"version": 1, "reason": "over"}, "reason": "over",
    })[0] == 409  # fmt: skip
    found = simulated(ward, rule(first=["suspend"], then=["resume"], over="key"))
    said = [one for one in found["unjudged"] if one["why"].startswith("it was refused, for duties were kept apart")]
    assert [(one["operation"], one["calls"]) for one in said] == [("approval-request", 1)], found["unjudged"]


def test_what_everybody_does_for_themselves_is_judged_where_a_rule_is_over_it(ward: Ward) -> None:
    approval = ward.asked()
    assert ward.send("/v1/approvals/{approval}/withdraw", approval, "second", {"reason": "changed"})[0] == 200
    apart = rule(first=["approval-request"], then=["approval-withdraw"], over="approval", why="who asks lets it be")
    assert groups(simulated(ward, apart)) == [("refused", "second", "approval-withdraw", "who asks lets it be", 1)]


def test_acts_that_were_kept_by_no_event_are_listed(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a server that was older than the table of acts."""
    monkeypatch.setattr(replaying_acts, "read_done", lambda conn, tenant: {})
    found = simulated(ward, rule(first=["suspend"], then=["resume"], over="key"))
    said = [one for one in found["unjudged"] if one["why"] == replaying_acts.PLACELESS]
    assert [one["operation"] for one in said] == ["resume"] and groups(found) == []

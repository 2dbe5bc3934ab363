"""The way back stays open: nobody is left behind a policy that too few people can change, unless somebody says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.protocols.inside import Inside, inside

pytestmark = pytest.mark.requirement("R10", "R15", "R31")
DISABLE, ENABLE = "/v1/people/{person}/disable", "/v1/people/{person}/enable"
REVOKE = "/v1/authenticators/{authenticator}/revoke"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Inside]:
    with inside(tmp_path) as made:
        yield made


def ask(server: Inside, path: str, who: str, ref: str, **body: Any) -> tuple[int, dict[str, Any]]:
    status, text = server.ask("POST", path, server.tokens[who], json.dumps(body).encode(), ref=ref)
    return status, dict(json.loads(text))


def enable(server: Inside, who: str) -> int:
    """Enable somebody as the custodian, with the operator's approval."""
    custodian = server.tokens["custodian"]
    approval = server.approvers.request("person-enable", who, {"reason": ""}, custodian)["id"]
    server.approvers.approve(approval, custodian, [server.tokens["operator"]])
    return server.ask("POST", ENABLE, custodian, b"{}", ref=who, approval=approval)[0]


def test_in_a_new_house_nobody_has_enrolled_and_anybody_may_be_disabled(server: Inside) -> None:
    assert ask(server, DISABLE, "custodian", "first-operator")[0] == 200


def test_the_last_who_can_approve_is_not_disabled_by_the_way(server: Inside) -> None:
    for who in ("operator", "auditor"):
        server.approvers.of(server.tokens[who])
    assert ask(server, DISABLE, "operator", "first-auditor")[0] == 200  # the custodian asks, the operator still approves
    for body in ({}, {"reason": "left"}):
        status, answer = ask(server, DISABLE, "custodian", "first-operator", **body)
        assert (status, answer["code"]) == (403, "refused")
        assert "--anyway" in answer["hint"] and "there would be 0 who can" in answer["hint"]
    assert server.ask("GET", "/v1/whoami", server.tokens["operator"])[0] == 200  # nothing of it was done
    assert enable(server, "first-auditor") == 200
    assert ask(server, DISABLE, "custodian", "first-operator")[0] == 200  # with another who approves, it is


def test_nobody_lets_a_person_in_again_alone(server: Inside) -> None:
    """Disabling is at once and one person's; taking it back is two people's, like an invitation."""
    for who in ("operator", "auditor"):
        server.approvers.of(server.tokens[who])
    assert ask(server, DISABLE, "operator", "first-auditor")[0] == 200
    status, answer = ask(server, ENABLE, "custodian", "first-auditor")
    assert (status, answer["code"]) == (403, "approval_required")
    assert server.ask("GET", "/v1/whoami", server.tokens["auditor"])[0] == 401
    assert enable(server, "first-auditor") == 200
    assert server.ask("GET", "/v1/whoami", server.tokens["auditor"])[0] == 200


def test_an_account_in_the_wrong_hands_is_stopped_all_the_same(server: Inside) -> None:
    server.approvers.of(server.tokens["operator"])
    assert ask(server, DISABLE, "custodian", "first-operator", reason="stolen", anyway=True)[0] == 200
    assert server.ask("GET", "/v1/whoami", server.tokens["operator"])[0] == 401
    events = [json.loads(entry) for entry in server.store.read_entries(0, 1000)]
    (said,) = [event for event in events if event["op"] == "person-disable" and event["outcome"] == "ok"]
    assert said["detail"] == {"alarm": "way-back", "principal": "first-operator"}
    assert ask(server, DISABLE, "custodian", "first-auditor")[0] == 200  # what is closed keeps nobody from anything


def test_nor_is_the_last_authenticator_that_signs_revoked(server: Inside) -> None:
    key = server.approvers.of(server.tokens["operator"]).authenticator
    for who in ("operator", "custodian"):  # one's own, and as a custodian
        status, answer = ask(server, REVOKE, who, key)
        assert (status, answer["code"]) == (403, "refused"), who
    server.approvers.of(server.tokens["auditor"])
    assert ask(server, REVOKE, "operator", key)[0] == 200

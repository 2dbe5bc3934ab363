"""Nobody raises themselves: not by approving what somebody else asks for them, not by a proof that is weaker than their session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.authenticator import Passkey
from tests.live import Live
from tests.visitor import Visitor

pytestmark = pytest.mark.requirement("R10", "R15", "R30")
Somebody = Callable[..., Visitor]


@pytest.mark.parametrize(
    ("operation", "path", "more"),
    [
        ("invitation-create", "/v1/invitations", {"hours": 1}),
        ("credential-issue", "/v1/credentials", {"ttl_seconds": 600}),
    ],
)
def test_nobody_approves_what_is_given_to_themselves(house: Live, operation: str, path: str, more: dict[str, Any]) -> None:
    body = {"principal": "first-operator", "role": "operator", **more}
    custodian, operator, auditor = (house.tokens[role] for role in ("custodian", "operator", "auditor"))
    made = house.approvers.request(operation, "", body, custodian)
    status, answer = house.approvers.of(operator).sign(made["id"])
    assert (status, "themselves" in answer["detail"]) == (403, True)
    refused = house.request("POST", path, custodian, alone=True, json=body, headers={"keyclave-approval": made["id"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "approval_required")
    again = house.approvers.request(operation, "", body, custodian)  # with somebody else's signature it is done
    house.approvers.approve(again["id"], custodian, [auditor])
    done = house.request("POST", path, custodian, alone=True, json=body, headers={"keyclave-approval": again["id"]})
    assert done.status_code == 201, done.text


def test_a_weaker_passkey_does_not_freshen_a_stronger_session(house: Live, somebody: Somebody) -> None:
    strong = somebody()
    phone = Visitor(house, strong.name, Passkey(strong.passkey.origin, synced=True))
    assert phone.enrol(strong.login()).status_code == 201
    stolen = strong.login()
    asked = house.post("/v1/step-up/passkey/begin", stolen).json()
    shown = [one["id"] for one in asked["publicKey"]["allowCredentials"]]
    assert len(shown) == 1  # the synced one is not even asked for
    body = {"ceremony": asked["ceremony"], "credential": phone.passkey.get(asked["publicKey"])}
    answer = house.post("/v1/step-up/passkey/finish", stolen, body)
    assert (answer.status_code, answer.json()["code"]) == (403, "assurance_required")
    weak = phone.login()
    assert house.get("/v1/whoami", phone.step_up(weak)).json()["aal"] == 2
    assert house.get("/v1/whoami", strong.step_up(phone.login())).json()["aal"] == 3  # upwards it goes

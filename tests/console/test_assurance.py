"""What cannot be undone asks for a passkey that stays on one device: a synced one approves and asks for nothing of the kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from keyclave.policy.bundle import standard
from tests.console.browser import Window
from tests.live import Live
from tests.policies import apply_request

Open = Callable[..., Window]
Invite = Callable[..., str]
SYNCED = {"defaultBackupEligibility": True, "defaultBackupState": True}

_number = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def _strict(house: Live) -> None:
    """Ask level 3 for a destruction, as the standard bundle for passkeys does."""
    files = dict(standard(people="tokens").files)
    was = 'classes = ["destruction", "export"]\n'
    assert was in files["rules.toml"]
    files["rules.toml"] = files["rules.toml"].replace(was, f"{was}assurance = 3\n")
    applied = house.post("/v1/policy/apply", "custodian", apply_request(house, files, house.tokens["custodian"]))
    assert applied.status_code == 200, applied.text


@pytest.fixture
def custodian(open_window: Open, invited: Invite) -> Callable[..., Window]:
    """Return a function that makes a custodian with a passkey on a device, who is logged in."""

    def make(**device: Any) -> Window:
        opened = open_window()
        opened.device(**device)
        opened.enrol(invited(f"custodian-{next(_number)}", "custodian"))
        opened.login()
        return opened

    return make


def session(person: Window) -> str:
    return str(person.cookies()["__Host-keyclave"]["value"])


@pytest.mark.requirement("R15", "R30", "R31")
def test_a_synced_passkey_does_not_approve_a_destruction_and_one_of_a_device_does(
    custodian: Callable[..., Window], house: Live
) -> None:
    asker, bound, synced = custodian(), custodian(), custodian(**SYNCED)
    levels = [house.get("/v1/whoami", session(person)).json()["aal"] for person in (asker, bound, synced)]
    assert levels == [3, 3, 2]
    house.create_key("last")
    assert house.post("/v1/keys/last/deactivate", "operator", {"reason": "over"}).status_code == 200
    scheduled = {"version": 1, "days": 0, "reason": "end of retention"}
    assert house.post("/v1/keys/last/schedule-destruction", "custodian", scheduled).status_code == 200
    body = {"operation": "destroy", "ref": "last", "request": {"version": 1, "reason": "over"}, "reason": "end of retention"}
    refused = house.post("/v1/approvals", session(synced), body)
    assert (refused.status_code, refused.json()["code"]) == (403, "assurance_required")
    assert "stays on one device" in refused.json()["hint"]
    made = house.post("/v1/approvals", session(asker), body)
    assert made.status_code == 201, made.text
    approval = made.json()["id"]

    page = synced.page
    page.goto(f"/ui/approvals/{approval}")
    page.click("text=Approve with passkey")
    page.wait_for_selector("#say p")
    said = page.inner_text("#say")
    assert "assurance level 2" in said
    assert "stays on one device" in said
    assert house.get(f"/v1/approvals/{approval}", "auditor").json()["signatures"] == []
    status, answer = house.approver("operator").sign(approval)  # a key in a file proves no more than a synced passkey
    assert (status, "assurance level 2" in answer["detail"]) == (403, True)

    for person in (bound, custodian()):
        person.page.goto(f"/ui/approvals/{approval}")
        person.page.click("text=Approve with passkey")
        person.page.wait_for_selector("text=You signed this.")
    asker.page.goto(f"/ui/approvals/{approval}")
    asker.page.click("text=Do it now")
    asker.page.wait_for_selector(".head .tag:has-text('executed')")
    assert house.get("/v1/keys/last", "custodian").json()["versions"][0]["state"] == "destroyed"


@pytest.mark.requirement("R30", "R31")
def test_whoever_has_both_signs_with_the_one_that_is_sure_enough(custodian: Callable[..., Window], house: Live) -> None:
    """The synced passkey is the newer one: what is asked for is still the one that the rule takes."""
    asker, both = custodian(), custodian()
    token = session(both)
    phone = both.device(transport="usb", **SYNCED)
    both.page.goto("/ui/account")
    both.page.fill("#a-label", "phone")
    both.page.click("text=Add a passkey")
    both.page.wait_for_selector("bdi:has-text('phone')")
    phone.remove()
    kinds = house.get("/v1/authenticators", token).json()["authenticators"]
    assert sorted(one["aal"] for one in kinds) == [2, 3]
    house.create_key("second")
    assert house.post("/v1/keys/second/deactivate", "operator", {"reason": "over"}).status_code == 200
    scheduled = {"version": 1, "days": 0, "reason": "end of retention"}
    assert house.post("/v1/keys/second/schedule-destruction", "custodian", scheduled).status_code == 200
    body = {"operation": "destroy", "ref": "second", "request": {"version": 1, "reason": "over"}, "reason": "over"}
    approval = house.post("/v1/approvals", session(asker), body).json()["id"]
    both.page.goto(f"/ui/approvals/{approval}")
    both.page.click("text=Approve with passkey")
    both.page.wait_for_selector("text=You signed this.")

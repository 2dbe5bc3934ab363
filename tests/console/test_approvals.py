"""Approving on the page: what is read is what is signed, with a passkey, once, in the window, by whoever may."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.console.browser import Window
from tests.live import Live

Open = Callable[..., Window]
Invite = Callable[..., str]
PLANTED = "<script>window.owned=1</script><img src=x onerror=window.owned=1> {{7*7}} \u202egnp.exe"

_number = itertools.count(1)


def ask(house: Live, requester: str = "custodian", reason: str = "end of retention") -> dict[str, Any]:
    """Ask for the destruction of a key that is due."""
    key = f"doomed-{next(_number)}"
    house.create_key(key)
    assert house.post(f"/v1/keys/{key}/deactivate", "operator", {"reason": "over"}).status_code == 200
    scheduled = {"version": 1, "days": 0, "reason": "end of retention"}
    assert house.post(f"/v1/keys/{key}/schedule-destruction", _scheduler(house), scheduled).status_code == 200
    body = {"operation": "destroy", "ref": key, "request": {"version": 1, "reason": "over"}, "reason": reason}
    made = house.post("/v1/approvals", requester, body)
    assert made.status_code == 201, made.text
    return {**made.json(), "key": key}


def _scheduler(house: Live) -> str:
    """Return the token of a custodian who does not ask for the destruction that they schedule."""
    body = {"principal": f"scheduler-{next(_number)}", "role": "custodian", "ttl_seconds": 600}
    return str(house.post("/v1/credentials", "custodian", body).json()["token"])


@pytest.fixture
def custodian(open_window: Open, invited: Invite) -> Callable[[], Window]:
    """Return a function that makes a further custodian with a passkey, who is logged in."""

    def make() -> Window:
        opened = open_window()
        opened.device()
        opened.enrol(invited(f"custodian-{next(_number)}", "custodian"))
        opened.login()
        return opened

    return make


@pytest.mark.requirement("R15", "R31")
def test_two_custodians_approve_with_passkeys_what_a_third_person_then_does(custodian: Callable[[], Window], house: Live) -> None:
    asked = ask(house, "custodian")
    first, second = custodian(), custodian()
    for person in (first, second):
        page = person.page
        page.goto("/ui/approvals")
        page.click(f"a[href='/ui/approvals/{asked['id']}']")
        page.wait_for_selector("h1:has-text('destroy')")
        # the page shows the canonical request and its hash, and they belong together
        page.click("summary:has-text('Exactly what is signed')")
        text = page.text_content("#canonical")
        assert text == asked["canonical"]
        assert page.text_content("#sum") == hashlib.sha256(text.encode()).hexdigest() == asked["request_sha256"]
        assert json.loads(text)["items"][0]["ref"] in page.inner_text("article")
        assert page.get_attribute("time[data-reload]", "data-ends") == asked["expires_at"]
        assert ":" in page.inner_text("time[data-reload]")
        page.click("text=Approve with passkey")
        page.wait_for_selector("text=You signed this.")
        assert page.locator("text=Approve with passkey").count() == 0
    assert "approved" in second.page.inner_text(".head")
    shown = house.get(f"/v1/approvals/{asked['id']}", "auditor").json()
    assert [one["counts"] for one in shown["signatures"]] == [True, True]
    assert len({one["approver"] for one in shown["signatures"]}) == 2
    assert house.request("POST", f"/v1/approvals/{asked['id']}/execute", "custodian", json={}).status_code == 200
    second.page.click("text=Refresh")
    second.page.wait_for_selector(".head .tag:has-text('executed')")


@pytest.mark.requirement("R15")
def test_a_denial_says_why_and_ends_the_request(custodian: Callable[[], Window], house: Live) -> None:
    asked = ask(house)
    person = custodian()
    person.page.goto(f"/ui/approvals/{asked['id']}")
    person.page.click("summary:has-text('Deny')")
    person.page.fill("#deny-why", PLANTED.replace("\u202e", ""))
    person.page.click("text=Deny the request")
    person.page.wait_for_selector(".head .tag:has-text('denied')")
    assert PLANTED.replace("\u202e", "") in person.page.inner_text("dl")
    assert person.page.evaluate("window.owned") is None
    assert person.page.locator("text=Approve with passkey").count() == 0
    assert house.get(f"/v1/approvals/{asked['id']}", "auditor").json()["status"] == "denied"


@pytest.mark.requirement("R15")
def test_whoever_asked_withdraws_or_executes_and_does_not_approve(custodian: Callable[[], Window], house: Live) -> None:
    person = custodian()
    token = person.cookies()["__Host-keyclave"]["value"]
    asked = ask(house, token)
    person.page.goto(f"/ui/approvals/{asked['id']}")
    assert person.page.locator("text=Approve with passkey").count() == 0
    person.page.click("text=Withdraw")
    person.page.wait_for_selector(".head .tag:has-text('withdrawn')")
    again = ask(house, token)
    for other in (custodian(), custodian()):
        other.page.goto(f"/ui/approvals/{again['id']}")
        other.page.click("text=Approve with passkey")
        other.page.wait_for_selector("text=You signed this.")
    person.page.goto(f"/ui/approvals/{again['id']}")
    person.page.click("text=Do it now")
    person.page.wait_for_selector(".head .tag:has-text('executed')")
    assert house.get(f"/v1/keys/{again['key']}", "custodian").json()["versions"][0]["state"].startswith("destroyed")


@pytest.mark.requirement("R31")
def test_what_is_planted_in_a_request_is_text(custodian: Callable[[], Window], house: Live) -> None:
    asked = ask(house, reason=PLANTED)
    person = custodian()
    for path in ("/ui/approvals", f"/ui/approvals/{asked['id']}"):
        person.page.goto(path)
        assert person.page.evaluate("window.owned") is None
        shown = [text for text in person.page.locator("bdi").all_text_contents() if "window.owned" in text]
        assert shown == [PLANTED]
        assert "49" not in shown[0]


@pytest.mark.requirement("R15")
@pytest.mark.parametrize("lie", ["canonical", "statement", "challenge"])
def test_the_page_signs_nothing_but_what_it_shows(custodian: Callable[[], Window], house: Live, lie: str) -> None:
    """Something between browser and server answers with another request than the page shows: the passkey is not even asked."""
    asked = ask(house)
    person = custodian()
    person.page.goto(f"/ui/approvals/{asked['id']}")

    cookie = "__Host-keyclave=" + person.cookies()["__Host-keyclave"]["value"]

    def tamper(route: Any) -> None:
        path = f"/v1/approvals/{asked['id']}/begin"
        said = house.request("POST", path, json={}, headers={"cookie": cookie, "origin": person.origin}).json()
        if lie == "canonical":
            said["canonical"] = said["canonical"].replace("doomed", "beloved")
        elif lie == "statement":
            said["statement"] = said["statement"].replace(asked["request_sha256"], "0" * 64)
        else:
            said["publicKey"]["challenge"] = "A" * 43
        route.fulfill(status=200, json=said)

    person.page.route("**/begin", tamper)
    person.page.click("text=Approve with passkey")
    person.page.wait_for_selector("#say p")
    assert person.page.inner_text("#say") in (
        "What would be signed is not what this page shows. Load the page again, and read it again.",
        "The challenge is not the hash of the statement. Load the page again.",
    )
    assert house.get(f"/v1/approvals/{asked['id']}", "auditor").json()["signatures"] == []


def test_an_approval_that_is_not_there_looks_like_one_that_is_not_yours(custodian: Callable[[], Window]) -> None:
    person = custodian()
    answer = person.page.goto("/ui/approvals/apr_aaaaaaaaaaaaaaaaaaaaaaaaaa")
    assert answer is not None
    assert answer.status == 404
    assert "Not found" in person.page.inner_text("h1")
    person.complaints.clear()

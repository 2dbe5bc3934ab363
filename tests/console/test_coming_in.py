"""Coming in by the pages: an invitation, a passkey, a login, a fresh proof; and the second choices."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pyotp
import pytest
from playwright.sync_api import expect

from tests.console.browser import Window
from tests.live import Live

Open = Callable[..., Window]
Invite = Callable[..., str]
SECRET = re.compile(r"kc[a-z]_[A-Za-z0-9_-]{20}")


def seen_addresses(window: Window) -> list[str]:
    """Return every address that was asked for, or stands in the history."""
    return [*window.asked, window.page.url]


@pytest.mark.requirement("R29", "R31")
def test_an_invitation_in_the_fragment_becomes_a_passkey_and_a_login(open_window: Open, invited: Invite, house: Live) -> None:
    window = open_window()
    device = window.device()
    token = invited("ada")
    window.page.goto("/ui/enrol#" + token)
    window.page.wait_for_selector("#enrol-make:not([hidden])")
    assert window.page.url == window.origin + "/ui/enrol"
    assert [window.page.text_content(f"#e-{what}") for what in ("principal", "role", "by")] == ["ada", "person", "first-operator"]
    window.page.fill("#e-label", "laptop")
    window.page.click("text=Make a passkey")
    window.page.wait_for_url("**/ui/login?enrolled=1")
    assert len(device.credentials()) == 1
    window.page.click("text=Log in with a passkey")
    window.page.wait_for_url("**/ui/account")
    assert window.page.text_content("h1") == "ada"
    assert "laptop" in window.page.text_content("#authenticators")
    # no secret was in an address, in what the page could read of its cookies, or in what it kept
    assert [one for one in seen_addresses(window) if SECRET.search(one)] == []
    kept = window.page.evaluate("[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)].join(' ')")
    assert not SECRET.search(kept)
    window.page.go_back()
    window.page.go_back()
    assert not SECRET.search(window.page.url)
    # the invitation opens nothing again
    assert house.post("/v1/enrolment/begin", body={"invitation": token}).status_code == 401


def test_a_used_invitation_is_refused_on_the_page(open_window: Open, invited: Invite) -> None:
    token = invited("used-up")
    first = open_window()
    first.device()
    first.enrol(token)
    second = open_window()
    second.device()
    second.page.goto("/ui/enrol")
    second.page.fill("#e-token", token)
    second.page.click("text=Go on")
    assert "opens nothing" in second.page.inner_text("#say p")
    assert second.page.is_hidden("#enrol-make")
    assert second.page.input_value("#e-token") == ""


@pytest.mark.requirement("R31")
def test_the_first_people_come_in_with_the_token_they_began_with(open_window: Open, house: Live) -> None:
    window = open_window()
    window.device()
    window.enrol(house.tokens["auditor"], "badge")
    window.login()
    assert window.page.text_content("h1") == "first-auditor"
    assert "level 3" in window.page.inner_text(".head")


def test_the_session_is_a_cookie_of_this_host_over_tls_that_no_script_reads(open_window: Open, invited: Invite) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("cookie"))
    window.login()
    cookie = window.cookies()["__Host-keyclave"]
    assert cookie["httpOnly"] is True
    assert cookie["secure"] is True
    assert cookie["sameSite"] == "Strict"
    assert (cookie["path"], cookie["domain"], cookie["expires"]) == ("/", "localhost", -1)
    assert "keyclave" not in window.page.evaluate("document.cookie")


@pytest.mark.requirement("R31")
def test_a_session_that_was_planted_is_not_the_one_that_is_logged_in(open_window: Open, invited: Invite, house: Live) -> None:
    thief = open_window()
    thief.device()
    thief.enrol(invited("thief"))
    thief.login()
    planted = thief.cookies()["__Host-keyclave"]["value"]
    window = open_window()
    window.device()
    window.enrol(invited("planted-on"))
    window.context.add_cookies(
        [
            {
                "name": "__Host-keyclave",
                "value": planted,
                "url": window.origin,
                "secure": True,
                "httpOnly": True,
                "sameSite": "Strict",
            }
        ]
    )
    window.page.goto("/ui/account")
    assert window.page.text_content("h1") == "thief"  # whoever plants a session shows their own, and the page says whose it is
    window.page.click("text=Log out")
    window.page.wait_for_url("**/ui/login?left=1")
    window.page.click("text=Log in with a passkey")
    window.page.wait_for_url("**/ui/account")
    assert window.page.text_content("h1") == "planted-on"
    assert window.cookies()["__Host-keyclave"]["value"] != planted
    assert house.get("/v1/whoami", planted).status_code == 401


@pytest.mark.requirement("R31")
def test_password_and_code_come_in_lower_and_a_fresh_proof_raises_them(open_window: Open, invited: Invite, house: Live) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("second-choice"))
    window.login()
    page = window.page
    page.click("summary:has-text('Password')")
    page.fill("#a-password", "correct horse battery")
    page.click("text=Set the password")
    page.wait_for_selector("#authenticators strong:has-text('Password')")
    page.click("summary:has-text('Code generator')")
    page.click("text=Show a QR code")
    seed = page.inner_text("#totp code")
    generator = pyotp.TOTP(seed)
    page.fill("#t-code", generator.now())
    page.click("text=Enrol the generator")
    page.wait_for_selector("#authenticators strong:has-text('Code generator')")
    assert not any(seed in one for one in seen_addresses(window))
    page.click("text=Log out")
    page.wait_for_url("**/ui/login?left=1")
    page.click("summary:has-text('Password and code')")
    page.fill("#p-principal", "second-choice")
    page.fill("#p-password", "correct horse battery")
    page.click("#login-password button")
    page.fill("#p-code", generator.at(time.time() + 30))  # the one at hand was used up by the enrolment
    page.click("#login-code button")
    page.wait_for_url("**/ui/account")
    assert "level 2" in page.inner_text(".head")
    before = window.cookies()["__Host-keyclave"]["value"]
    # making recovery codes asks for the surest proof there is: the dialog gets it, and the same click goes on
    page.click("summary:has-text('Recovery codes')")
    page.click("text=Make recovery codes")
    page.wait_for_selector("dialog[open]")
    assert "level 3" in page.inner_text("#confirm-why")
    page.click("text=Confirm with passkey")
    page.wait_for_selector("ul.codes li")
    codes = page.locator("ul.codes li").all_inner_texts()
    assert len(set(codes)) == 10
    after = window.cookies()["__Host-keyclave"]["value"]
    assert after != before
    assert house.get("/v1/whoami", before).status_code == 401  # the token of before the proof is dead
    assert house.get("/v1/whoami", after).json()["aal"] == 3
    # a recovery code lets in to enrol, and nothing else
    other = open_window()
    other.device()
    other.page.goto("/ui/login")
    other.page.click("summary:has-text('Recovery code')")
    other.page.fill("#r-principal", "second-choice")
    other.page.fill("#r-code", codes[0])
    other.page.click("text=Use the code")
    other.page.wait_for_url("**/ui/enrol")
    other.page.goto("/ui/account")
    assert other.page.url.endswith("/ui/enrol")
    other.page.click("text=Make a passkey")
    other.page.wait_for_url("**/ui/login?enrolled=1")
    other.page.click("text=Log in with a passkey")
    other.page.wait_for_url("**/ui/account")


@pytest.mark.requirement("R31")
def test_a_synced_passkey_is_refused_where_level_3_is_asked(open_window: Open, invited: Invite) -> None:
    window = open_window()
    hardware = window.device(transport="usb")
    window.enrol(invited("synced"))
    window.login()
    page = window.page
    assert "level 3" in page.inner_text(".head")
    hardware.remove()  # the key is in a drawer, the synced passkey at hand
    window.device(defaultBackupEligibility=True, defaultBackupState=True)
    page.fill("#a-label", "phone")
    page.click("text=Add a passkey")
    page.wait_for_selector("bdi:has-text('phone')")
    window.context.clear_cookies()
    window.login()
    assert "level 2" in page.inner_text(".head")
    assert page.is_visible("text=synced")
    # there is a surer one than this session was opened with, so enrolling asks for it
    page.click("summary:has-text('Recovery codes')")
    page.click("text=Make recovery codes")
    page.wait_for_selector("dialog[open]")
    page.click("text=Not now")
    page.wait_for_selector("#say p")
    assert page.is_hidden("dialog")
    page.click("text=Make recovery codes")
    page.wait_for_selector("dialog[open]")
    page.click("text=Confirm with passkey")
    page.wait_for_selector("#say p:has-text('level 3')")
    assert "level 2" in page.inner_text(".head")
    assert page.locator("ul.codes").count() == 0


def test_a_device_that_does_not_verify_its_user_enrols_nothing(open_window: Open, invited: Invite) -> None:
    window = open_window()
    device = window.device()
    device.verifies(user=False)
    window.page.goto("/ui/enrol#" + invited("unverified"))
    window.page.wait_for_selector("#enrol-make:not([hidden])")
    window.page.click("text=Make a passkey")
    window.page.wait_for_selector("#say p")
    assert "passkey was not used" in window.page.inner_text("#say")
    assert window.page.url.endswith("/ui/enrol")


def test_sessions_are_listed_and_ended_on_the_page(open_window: Open, invited: Invite, house: Live) -> None:
    window = open_window()
    device = window.device()
    window.enrol(invited("twice-in"))
    window.login()
    other = open_window()
    other.device().add({**device.credentials()[0]})
    other.login()
    window.page.reload()
    assert window.page.locator("#sessions li").count() == 2
    window.page.click("#sessions button:has-text('End')")
    expect(window.page.locator("#sessions li")).to_have_count(1)
    other.page.goto("/ui/account")
    assert "/ui/login" in other.page.url


def test_what_a_page_asks_goes_through_the_desk_as_the_person(open_window: Open, invited: Invite, house: Live) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("recorded"))
    window.login()
    session = house.get("/v1/whoami", window.cookies()["__Host-keyclave"]["value"]).json()["credential"]
    events = house.get("/v1/audit/events", "auditor", params={"actor": "recorded", "limit": 50}).json()["events"]
    by_page = {event["op"] for event in events if event.get("credential") == session}
    assert {"authenticator-list", "session-list", "elevation-list", "whoami"} <= by_page

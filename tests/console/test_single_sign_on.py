"""Single sign-on as a person sees it: a button, the provider's own page, and back, logged in, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright

from tests.console.browser import launch_browser, window
from tests.protocols.oidc.conftest import new_house
from tests.protocols.oidc.house import ALGORITHMS, House


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A provider and a server that believes it."""
    made = new_house(tmp_path_factory.mktemp("sign-on"))
    yield made
    made.provider.stop()
    made.live.stop()


@pytest.fixture(scope="module")
def chromium(playwright_: Playwright, hospital: House) -> Iterator[Browser]:
    started = launch_browser(playwright_, hospital.live.home / "tls" / "server.pem")
    yield started
    started.close()


@pytest.mark.requirement("R30", "R31")
def test_a_person_of_the_provider_logs_in_by_its_button_and_is_confirmed_there(chromium: Browser, hospital: House) -> None:
    hospital.invite("oidc:corp:alice")
    with window(chromium, hospital.live) as person:
        page = person.page
        page.goto("/ui/login")
        shown = page.locator("main a.button").all_inner_texts()
        assert {f"Log in with Hospital {name}" for name in ALGORITHMS} <= set(shown)
        page.get_by_role("link", name="Log in with Hospital corp", exact=True).click()
        page.fill("[name=login]", "alice")
        page.evaluate("document.forms[0].requestSubmit()")
        page.wait_for_url("**/ui/account")
        assert page.text_content("h1") == "oidc:corp:alice"
        before = person.cookies()["__Host-keyclave"]
        assert (before["sameSite"], before["httpOnly"]) == ("Strict", True)
        assert "__Host-keyclave-sign-on" not in person.cookies()
        # no code or state of the provider stays where the back button goes
        page.go_back()
        assert "code=" not in page.url
        # what asks for more than the provider says is refused, with the way to prove it
        page.goto("/ui/account")
        page.click("summary:has-text('Recovery codes')")
        page.click("text=Make recovery codes")
        page.wait_for_selector("dialog[open]")
        assert page.get_attribute("dialog a.button", "href") == "/v1/sso/corp/start?step_up=1"
        page.click("dialog a.button")
        page.fill("[name=login]", "alice")
        page.evaluate("document.forms[0].requestSubmit()")
        page.wait_for_url("**/ui/account")
        assert person.cookies()["__Host-keyclave"]["value"] != before["value"]


def test_who_was_not_invited_sees_it_said_and_has_no_session(chromium: Browser, hospital: House) -> None:
    with window(chromium, hospital.live) as stranger:
        stranger.page.goto("/ui/login")
        stranger.page.get_by_role("link", name="Log in with Hospital corp", exact=True).click()
        stranger.page.fill("[name=login]", "mallory")
        stranger.page.evaluate("document.forms[0].requestSubmit()")
        stranger.page.wait_for_selector("h1:has-text('Not logged in')")
        assert "__Host-keyclave" not in stranger.cookies()

"""Single sign-on and `keyclave login` in Chromium: two sites, strict cookies, a page that goes on, a command line that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from keyclave_cli.loopback import Loopback
from keyclave_client import Client
from tests.console.browser import Window, launch_browser, window
from tests.protocols.oidc.house import House

pytestmark = pytest.mark.requirement("R30")


@pytest.fixture(scope="module")
def chromium(house: House) -> Iterator[Browser]:
    with sync_playwright() as driver:
        started = launch_browser(driver, house.live.home / "tls" / "server.pem")
        yield started
        started.close()


@pytest.fixture
def page_of(chromium: Browser, house: House) -> Iterator[Window]:
    with window(chromium, house.live) as opened:
        yield opened


def at_the_provider(opened: Window, login: str, ago: int = 0) -> None:
    """Fill in the provider's form; `ago`: seconds since the person proved themselves, as the provider will say."""
    opened.page.wait_for_url("https://127.0.0.1:*/interaction/*")
    if ago:
        opened.page.fill("[name=ts]", str(int(time.time()) - ago))
    opened.page.fill("[name=login]", login)
    opened.page.press("[name=login]", "Enter")


def test_a_person_comes_in_by_the_button_and_confirms_where_they_logged_in(page_of: Window, house: House) -> None:
    house.invite("oidc:corp:walter")
    page_of.page.goto("/ui/login")
    page_of.page.click("text=Log in with Hospital corp >> nth=0")
    at_the_provider(page_of, "walter")
    page_of.page.wait_for_url("**/ui/account")  # the strict cookie came along, though the way led over another site
    assert page_of.page.text_content("h1") == "oidc:corp:walter"
    session = page_of.cookies()["__Host-keyclave"]
    assert (session["sameSite"], session["httpOnly"], session["secure"]) == ("Strict", True, True)
    assert "__Host-keyclave-sign-on" not in page_of.cookies()
    page_of.page.goto("/v1/sso/corp/start?step_up=1")
    at_the_provider(page_of, "walter")
    page_of.page.wait_for_url("**/ui/account")
    assert page_of.cookies()["__Host-keyclave"]["value"] != session["value"]
    assert [one for one in page_of.asked if session["value"] in one] == []


def test_a_command_line_is_let_in_through_the_provider(page_of: Window, house: House) -> None:
    house.invite("oidc:corp:xena")
    waiting = Loopback()
    try:
        page_of.page.goto(f"/v1/sso/corp/start?cli={waiting.waiting}")
        at_the_provider(page_of, "xena")
        page_of.page.wait_for_url("**/ui/login?cli=*")
        page_of.page.click("text=Yes, log it in")
        page_of.page.wait_for_url(f"http://127.0.0.1:{waiting.port}/callback?*")
        assert "The command line goes on" in page_of.page.content()
        with Client(house.live.url, ca_file=house.live.ca_file) as client:
            opened = client.trade_code(waiting.wait(15), waiting.verifier)
        assert opened.principal == "oidc:corp:xena"
        assert house.live.get("/v1/whoami", opened.token).json()["principal"] == "oidc:corp:xena"
    finally:
        waiting.close()


def test_an_old_proof_is_made_anew_at_the_provider_on_the_way_to_the_command_line(page_of: Window, house: House) -> None:
    house.invite("oidc:corp:zoe")
    page_of.page.goto("/v1/sso/corp/start")
    at_the_provider(page_of, "zoe", ago=1200)
    page_of.page.wait_for_url("**/ui/account")
    waiting = Loopback()
    try:
        page_of.page.goto(f"/ui/login?cli={waiting.waiting}")
        page_of.page.click("text=Yes, log it in")
        page_of.page.click("text=Confirm where you log in")
        at_the_provider(page_of, "zoe")
        page_of.page.wait_for_url("**/ui/login?cli=*")
        page_of.page.click("text=Yes, log it in")
        assert waiting.wait(15)
    finally:
        waiting.close()


def test_a_machine_is_let_in_on_the_page(page_of: Window, house: House) -> None:
    house.invite("oidc:corp:yves")
    with Client(house.live.url, ca_file=house.live.ca_file) as client:
        begun = client.begin_device_login()
        page_of.page.goto("/v1/sso/corp/start")
        at_the_provider(page_of, "yves")
        page_of.page.wait_for_url("**/ui/account")
        page_of.page.goto(begun.verification_uri)
        page_of.page.fill("input[name=user_code]", begun.user_code)
        page_of.page.press("input[name=user_code]", "Enter")
        page_of.page.wait_for_selector("text=127.0.0.1")
        page_of.page.click("button[name=allow][value=true]")
        page_of.page.wait_for_selector("button[name=allow]", state="detached")
        session = client.poll_device_login(begun.device_code).session
    assert session is not None
    assert session.principal == "oidc:corp:yves"

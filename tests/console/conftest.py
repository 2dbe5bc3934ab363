"""One browser, one server, and windows of people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.console.browser import Window, launch_browser, window
from tests.live import Live, launch


@pytest.fixture(scope="module")
def playwright_() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A development server; bearer tokens let its first people begin."""
    server = launch(tmp_path_factory.mktemp("console"), "--development", unseal=False)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser(playwright_: Playwright, house: Live) -> Iterator[Browser]:
    """Chromium that believes `house`."""
    started = launch_browser(playwright_, house.home / "tls" / "server.pem")
    yield started
    started.close()


@pytest.fixture
def open_window(browser: Browser, house: Live) -> Iterator[Callable[..., Window]]:
    """Return a function that opens windows; each is closed with the test, and its breaches are looked at."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(window(browser, house, **options))


@pytest.fixture(scope="module")
def invited(house: Live) -> Callable[..., str]:
    """Return a function that invites somebody, has a second person confirm it, and returns the token."""

    def invite(name: str, role: str = "person", **more: Any) -> str:
        by, second = ("operator", "custodian") if role == "person" else ("custodian", "operator")
        made = house.post("/v1/invitations", by, {"principal": name, "role": role, "hours": 1, **more})
        assert made.status_code == 201, made.text
        if made.json()["state"] == "waiting":  # one that widens rights was approved by others before it was made
            assert house.post(f"/v1/invitations/{made.json()['id']}/confirm", second).status_code == 200
        return str(made.json()["token"])

    return invite

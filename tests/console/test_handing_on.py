"""Handing a login on from the page: to the command line of this computer, and to a machine that shows a code."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.console.browser import Window
from tests.live import ENVIRONMENT, Live

Open = Callable[..., Window]
Invite = Callable[..., str]


def url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class CommandLine:
    """What `keyclave login` is for the browser: a loopback port that waits for one code (RFC 8252)."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.query: dict[str, list[str]] = {}
        self.verifier, self.state = url64(secrets.token_bytes(32)), url64(secrets.token_bytes(32))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if urlsplit(self.path).path == "/callback":
                    outer.query = parse_qs(urlsplit(self.path).query)
                    outer.came.set()
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def asks(self) -> str:
        return f"{self.port}.{self.state}.{url64(hashlib.sha256(self.verifier.encode()).digest())}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def command_line() -> Iterator[CommandLine]:
    waiting = CommandLine()
    yield waiting
    waiting.close()


@pytest.mark.requirement("R31")
def test_the_command_line_of_this_computer_is_logged_in_after_a_yes(
    open_window: Open, invited: Invite, house: Live, command_line: CommandLine
) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("shell"))
    window.page.goto(f"/ui/login?cli={command_line.asks}")
    window.page.click("text=Log in with a passkey")
    window.page.wait_for_selector("h1:has-text('Log the command line in?')")
    assert not command_line.came.is_set()  # nothing is handed on before somebody says so
    assert f"127.0.0.1:{command_line.port}" in window.page.inner_text("main")
    window.page.click("text=Yes, log it in")
    assert command_line.came.wait(15)
    assert command_line.query["state"] == [command_line.state]
    code = command_line.query["code"][0]
    stolen = house.post("/v1/login/cli/token", body={"code": code, "verifier": url64(bytes(32))})
    assert stolen.status_code == 401
    answer = house.post("/v1/login/cli/token", body={"code": code, "verifier": command_line.verifier})
    assert answer.status_code == 200, answer.text
    assert house.get("/v1/whoami", answer.json()["token"]).json()["principal"] == "shell"
    again = house.post("/v1/login/cli/token", body={"code": code, "verifier": command_line.verifier})
    assert again.status_code in (401, 403)


@pytest.mark.requirement("R31")
def test_keyclave_login_is_let_in_by_the_page_that_it_opens(
    open_window: Open, invited: Invite, house: Live, tmp_path: Path
) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("terminal"))
    places = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "BROWSER": "/bin/true"}
    server = {"KEYCLAVE_URL": house.url, "KEYCLAVE_CA_FILE": house.ca_file}
    process = subprocess.Popen(
        [sys.executable, "-m", "keyclave_cli", "login", "--save-as", "mine", "--json"],
        env={**{k: v for k, v in ENVIRONMENT.items() if not k.startswith("KEYCLAVE_")}, **places, **server},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        opening = next((line for line in process.stderr if "opening " in line), "")
        window.page.goto(opening.partition("opening ")[2].strip())
        window.page.click("text=Log in with a passkey")
        window.page.click("text=Yes, log it in")
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    told = json.loads(said)
    assert (told["principal"], told["aal"], told["profile"]) == ("terminal", 3, "mine")
    assert "kcs_" not in said
    [kept] = [path for path in tmp_path.rglob("*") if path.is_file() and "kcs_" in path.read_text()]
    assert kept.stat().st_mode & 0o077 == 0


def test_no_hands_nothing_on(open_window: Open, invited: Invite, command_line: CommandLine) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("says-no"))
    window.login()
    window.page.goto(f"/ui/login?cli={command_line.asks}")
    window.page.click("a:text-is('No')")
    window.page.wait_for_url("**/ui/account")
    assert not command_line.came.is_set()


@pytest.mark.parametrize(
    "cli", ["80.a.b", "evil.example", f"443.{'A' * 43}.{'B' * 43}", f"65536@evil.{'A' * 43}.{'B' * 43}", "1"]
)
def test_what_is_no_command_line_is_not_served(open_window: Open, cli: str) -> None:
    window = open_window()
    answer = window.page.goto(f"/ui/login?cli={cli}")
    assert answer is not None
    assert answer.status == 400
    window.complaints.clear()


@pytest.mark.requirement("R31")
@pytest.mark.parametrize("allowed", [True, False])
def test_a_machine_that_shows_a_code_is_let_in_or_turned_away(
    open_window: Open, invited: Invite, house: Live, allowed: bool
) -> None:
    waiting = house.post("/v1/login/device").json()
    assert waiting["verification_uri"].endswith("/ui/device")
    window = open_window()
    window.device()
    window.enrol(invited(f"device-{allowed}"))
    window.page.goto(waiting["verification_uri"])
    window.page.click("text=Log in with a passkey")
    window.page.wait_for_url("**/ui/device")
    window.page.fill("#d-code", waiting["user_code"].lower())
    window.page.click("text=Show what waits")
    window.page.wait_for_selector("h1:has-text('Let this machine in?')")
    shown = window.page.inner_text("#device")
    assert "127.0.0.1" in shown
    assert waiting["user_code"] in shown
    window.page.click("text=Let it in" if allowed else "text=Turn it away")
    window.page.wait_for_selector("h1:has-text('let in')" if allowed else "h1:has-text('turned away')")
    answer = house.post("/v1/login/device/token", body={"device_code": waiting["device_code"]}).json()
    assert answer["status"] == ("granted" if allowed else "access_denied")
    if allowed:
        who = house.get("/v1/whoami", answer["session"]["token"]).json()
        assert (who["principal"], who["aal"]) == ("device-True", 2)
    assert not any(waiting["user_code"] in url for url in window.asked)


def test_a_code_that_names_nothing_is_said_so_beside_the_form(open_window: Open, invited: Invite) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("guesses"))
    window.login()
    window.page.goto("/ui/device")
    window.page.fill("#d-code", "BBBB-BBBB")
    window.page.click("text=Show what waits")
    window.page.wait_for_selector("#say p")
    assert "No machine waits" in window.page.inner_text("#say")
    assert window.page.is_visible("#d-code")

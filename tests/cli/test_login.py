"""`keyclave login` and `logout` at a prompt: a browser hands a code on, or a person types one; the session lands in a profile."""

from __future__ import annotations

import json
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from keyclave_cli import profiles
from keyclave_cli.commands import login as command
from keyclave_cli.loopback import Loopback
from keyclave_cli.problems import Stop
from keyclave_cli.program import run
from tests.cli.transcript import Prompt
from tests.live import Live
from tests.visitor import Visitor

pytestmark = pytest.mark.requirement("R30")


@pytest.fixture(scope="module")
def visitor(live: Live) -> Visitor:
    made = live.post("/v1/credentials", "custodian", {"principal": "at-the-prompt", "role": "person", "ttl_seconds": 3600}).json()
    one = Visitor(live, "at-the-prompt")
    assert one.enrol(made["token"]).status_code == 201
    return one


@pytest.fixture
def profile(live: Live, prompt: Prompt) -> profiles.Profile:
    """A profile that knows the server, and holds no credential."""
    made = profiles.write_profile("ward", None, live.url, live.ca_file, None, replace=True)
    profiles.use_profile(made)
    return made


def as_page(live: Live, visitor: Visitor, opened: list[str]) -> Any:
    """Return what stands for the browser: its person logs in and hands the login on, as the page does."""

    def open_page(address: str) -> bool:
        opened.append(address)

        def visit() -> None:
            port, state, challenge = parse_qs(urlsplit(address).query)["cli"][0].split(".")
            asked = {"port": int(port), "state": state, "challenge": challenge}
            granted = live.post("/v1/login/cli/grant", visitor.login(), asked).json()
            assert httpx.get(granted["redirect"], trust_env=False).status_code == 200

        threading.Thread(target=visit, daemon=True).start()
        return True

    return open_page


def test_a_login_through_the_browser_is_kept_in_the_profile(
    live: Live, visitor: Visitor, profile: profiles.Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", as_page(live, visitor, opened))
    monkeypatch.setattr(command, "_has_browser", lambda: True)
    assert run(["login"]) == 0
    assert opened[0].startswith(f"https://localhost:{live.port}/ui/login?cli=")
    said = capsys.readouterr()
    assert "logged in as at-the-prompt: level 3 by passkey" in said.out
    kept = profiles.read_profile(profile.path)
    assert kept.token is not None
    assert kept.token.startswith("kcs_")
    assert kept.token not in said.out + said.err
    assert stat.S_IMODE(profile.path.stat().st_mode) == 0o600
    assert run(["--json", "whoami"]) == 0
    assert json.loads(capsys.readouterr().out)["principal"] == "at-the-prompt"
    assert run(["logout"]) == 0
    assert live.get("/v1/whoami", kept.token).status_code == 401
    assert profiles.read_profile(profile.path).token is None


def test_a_bearer_credential_is_never_written_over(
    live: Live, visitor: Visitor, prompt: Prompt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = profiles.write_profile("custodian", None, live.url, live.ca_file, live.tokens["custodian"], replace=True)
    profiles.use_profile(held)
    monkeypatch.setattr("webbrowser.open", as_page(live, visitor, []))
    monkeypatch.setattr(command, "_has_browser", lambda: True)
    assert run(["login"]) == 0
    assert profiles.read_profile(held.path).token == live.tokens["custodian"]
    used = profiles.profile_in_use(None)
    assert used is not None
    assert used.name == "custodian-session"
    assert run(["--profile", "custodian", "logout"]) == 2  # a bearer credential is no session


def test_a_home_of_several_people_is_told_which_profile_it_is(
    live: Live, visitor: Visitor, prompt: Prompt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = prompt.folder / "home"
    for name in ("custodian", "operator"):
        profiles.write_profile(name, str(home), live.url, live.ca_file, live.tokens[name], replace=True)
    monkeypatch.setattr("webbrowser.open", as_page(live, visitor, []))
    monkeypatch.setattr(command, "_has_browser", lambda: True)
    assert run(["--home", str(home), "--profile", "operator", "login"]) == 0
    assert "give --profile operator-session to commands" in capsys.readouterr().err
    assert run(["--home", str(home), "--profile", "operator-session", "--json", "whoami"]) == 0
    assert json.loads(capsys.readouterr().out)["principal"] == "at-the-prompt"


def test_a_login_by_a_typed_code(
    live: Live, visitor: Visitor, profile: profiles.Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def type_code(_seconds: float) -> None:
        """Stand for the wait between two questions: the person types the code meanwhile."""
        shown = capsys.readouterr().err
        code = re.search(r"[A-Z]{4}-[A-Z]{4}", shown)
        if code is not None:
            assert f"https://localhost:{live.port}/ui/device" in shown
            body = {"user_code": code[0], "allow": True}
            assert live.post("/v1/login/device/grant", visitor.login(), body).status_code == 200

    monkeypatch.setattr(command.time, "sleep", type_code)
    assert run(["login", "--no-browser"]) == 0
    assert "level 2 by passkey" in capsys.readouterr().out


def test_a_login_that_is_turned_away_says_so(
    live: Live, visitor: Visitor, profile: profiles.Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_seconds: float) -> None:
        code = re.search(r"[A-Z]{4}-[A-Z]{4}", capsys.readouterr().err)
        assert code is not None
        live.post("/v1/login/device/grant", visitor.login(), {"user_code": code[0], "allow": False})

    monkeypatch.setattr(command.time, "sleep", refuse)
    assert run(["login", "--no-browser"]) == 1
    assert "turned away" in capsys.readouterr().err
    assert profiles.read_profile(profile.path).token is None


def test_a_strange_provider_is_named_with_those_there_are(
    live: Live, profile: profiles.Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["login", "--sso", "nobody"]) == 2
    assert "known: none" in capsys.readouterr().err


# ---- the loopback address ---------------------------------------------------------------------------------------------------
@pytest.fixture
def waiting() -> Iterator[Loopback]:
    made = Loopback()
    yield made
    made.close()


def ask(waiting: Loopback, query: str, *, path: str = "/callback", host: str | None = None) -> int:
    headers = {} if host is None else {"host": host}
    address = f"http://127.0.0.1:{waiting.port}{path}?{query}"
    return httpx.get(address, headers=headers, trust_env=False).status_code


def test_only_an_answer_with_our_state_counts_and_only_the_first(waiting: Loopback) -> None:
    good = f"code=right&state={waiting.state}"
    for query, more in [
        ("code=planted&state=wrong", {}), ("code=planted", {}), (f"state={waiting.state}", {}), (good, {"path": "/"}),
        (good, {"host": f"elsewhere.example:{waiting.port}"}), (good, {"host": f"localhost:{waiting.port}"}),
        (f"code={'x' * 3000}&state={waiting.state}", {}),
    ]:  # fmt: skip
        assert ask(waiting, query, **more) == 400, (query, more)
    assert ask(waiting, good) == 200
    assert ask(waiting, f"code=late&state={waiting.state}") == 400
    assert waiting.wait(5) == "right"


def test_nobody_else_reaches_it_and_a_silent_one_holds_up_nobody(waiting: Loopback) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", waiting.port)):  # says nothing
        assert ask(waiting, f"code=right&state={waiting.state}") == 200
    assert waiting._server.server_address[0] == "127.0.0.1"
    assert waiting.verifier not in repr(waiting)


def test_nobody_waits_for_ever(waiting: Loopback) -> None:
    with pytest.raises(Stop):
        waiting.wait(0.01)


@pytest.mark.parametrize("pages", ["http://elsewhere.example", "file:///etc", "https://", "javascript:alert(1)", "https://x\n.y"])
def test_only_web_pages_over_tls_are_opened(pages: str) -> None:
    with pytest.raises(Stop):
        command._check_pages(pages)
    command._check_pages("https://keys.example.org")


def test_the_profile_is_private_in_a_folder_that_is(live: Live, prompt: Prompt, tmp_path: Path) -> None:
    kept = profiles.keep_session(None, "fresh", None, live.url, live.ca_file, "kcs_x")
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    used = profiles.profile_in_use(None)
    assert used is not None
    assert used.name == "fresh"

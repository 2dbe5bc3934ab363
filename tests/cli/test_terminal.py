"""Manners at a terminal: tables, hidden input, no ciphertext, no control characters. A real pseudo-terminal is the person's."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyclave_cli import profiles
from tests.cli.conftest import introduce
from tests.cli.transcript import Prompt
from tests.live import Live

SRC = str(Path(__file__).resolve().parents[2] / "src")
PATIENCE = 60


class Terminal:
    """A run of the command line whose stdin, stdout and stderr are a terminal, or stdin a given file."""

    def __init__(self, *arguments: str, stdin: Path | None = None, columns: int = 120) -> None:
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "keyclave_cli", *arguments]
        environment = {**os.environ, "PYTHONPATH": SRC, "TERM": "xterm", "COLUMNS": str(columns)}
        source = None if stdin is None else stdin.open("rb")
        self.process = subprocess.Popen(
            command, stdin=source or theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        if source is not None:
            source.close()
        self.shown = ""

    def until(self, text: str, times: int = 1) -> None:
        """Read on until `text` is shown for the `times`th time."""
        self._read(lambda: self.shown.count(text) >= times)
        assert self.shown.count(text) >= times, self.shown

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._ours, text.encode() + b"\n")

    def end(self) -> int:
        """Read to the end and return the exit code."""
        self._read(lambda: False)
        code = self.process.wait(PATIENCE)
        os.close(self._ours)
        return code

    def _read(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not enough() and time.monotonic() < deadline:
            if not select.select([self._ours], [], [], 0.5)[0]:
                continue
            try:
                piece = os.read(self._ours, 4096)
            except OSError:  # the other side is closed
                return
            if not piece:
                return
            self.shown += piece.decode(errors="replace")


def test_keys_are_a_table(people: Prompt, live: Live) -> None:
    live.create_key("t-table", tags={"a": "b"})
    terminal = Terminal("--profile", "auditor", "key", "list", "--name", "t-table")
    assert terminal.end() == 0
    assert re.search(r"Name\s+Spec\s+Purpose", re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown))
    assert "─" in terminal.shown


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_an_id_can_be_copied_whole_however_narrow_the_terminal_is(people: Prompt, live: Live, columns: int) -> None:
    name = f"t-narrow-{columns}"
    made = live.create_key(name, owner="department-of-cardiology")
    terminal = Terminal("--profile", "auditor", "key", "list", "--name", name, columns=columns)
    assert terminal.end() == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown)
    assert all(whole in shown for whole in (name, made["id"], "aes-256", "department-of-cardiology"))
    assert ("─" in shown) is (columns == 160)


def test_ciphertext_is_not_written_to_a_terminal(people: Prompt, live: Live) -> None:
    live.create_key("t-terminal")
    (people.folder / "plain").write_text("text")
    terminal = Terminal("--profile", "app", "encrypt", "-", "-k", "t-terminal", stdin=people.folder / "plain")
    assert terminal.end() == 2
    assert "ciphertext is not for a terminal" in terminal.shown
    assert "KCL" not in terminal.shown


@pytest.mark.parametrize(("content", "code"), [(b"plain text\n", 0), (b"\x1b[2Jgone", 1), (b"\xff\xfe\x00", 1)])
def test_plaintext_is_shown_if_it_is_text(people: Prompt, live: Live, content: bytes, code: int) -> None:
    if not any(key["name"] == "t-shown" for key in live.get("/v1/keys?name=t-shown", "auditor").json()["keys"]):
        live.create_key("t-shown")
    (people.folder / "sealed").write_bytes(people("--profile", "app", "encrypt", "-", "-k", "t-shown", given=content).out)
    terminal = Terminal("--profile", "app", "decrypt", "-", "-k", "t-shown", stdin=people.folder / "sealed")
    assert terminal.end() == code
    assert ("plain text" in terminal.shown) is (code == 0)
    assert "\x1b[2J" not in terminal.shown


def test_ciphertext_is_not_typed(people: Prompt) -> None:
    terminal = Terminal("--profile", "app", "decrypt", "-", "-k", "t-any")
    assert terminal.end() == 2
    assert "ciphertext cannot be typed" in terminal.shown


def test_destroying_asks_for_the_name(people: Prompt, live: Live) -> None:
    live.create_key("t-doomed")
    terminal = Terminal("--profile", "custodian", "key", "destroy", "t-doomed", "--version", "1")
    terminal.until("Type the key's name")
    terminal.type("yes")
    assert terminal.end() == 1
    assert "that is not its name; nothing was changed" in terminal.shown


def test_a_token_is_asked_for_and_not_shown(prompt: Prompt) -> None:
    terminal = Terminal("profile", "add", "typed", "--url", "https://127.0.0.1:1")
    terminal.until("Token")
    terminal.type("kct_typed-in")
    assert terminal.end() == 0
    assert "kct_typed-in" not in terminal.shown
    assert profiles.find_profile("typed", None).token == "kct_typed-in"


@pytest.mark.requirement("R3")
def test_shares_are_asked_for_until_the_server_is_open(own_live: Live, prompt: Prompt) -> None:
    introduce(own_live)
    assert prompt("--profile", "custodian", "seal").code == 0
    assert prompt("--profile", "operator", "status").code == 3
    terminal = Terminal("--profile", "operator", "unseal")
    terminal.until("0 of 2 shares")
    terminal.until("Share: ")
    terminal.type("kcs1-nonsense")
    terminal.until("Share: ", times=2)
    terminal.type(own_live.shares[2])
    terminal.until("Share: ", times=3)
    assert "1 of 2" in terminal.shown
    terminal.type(own_live.shares[0])
    assert terminal.end() == 0
    assert "the server is open" in terminal.shown
    assert own_live.shares[0] not in terminal.shown
    assert prompt("--profile", "operator", "status").code == 0

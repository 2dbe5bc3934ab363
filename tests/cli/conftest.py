"""What the command line's tests share: a prompt, and people with profiles on the live server."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyclave_cli import profiles
from tests.cli.transcript import Prompt
from tests.live import Live

USES = ["encrypt", "decrypt", "re-encrypt", "data-key", "unwrap", "wrap", "sign", "verify", "mac", "verify-mac", "random"]


@pytest.fixture
def prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prompt:
    """Somebody at a prompt, with no server."""
    folder = tmp_path / "desk"
    folder.mkdir()
    return Prompt(folder, monkeypatch)


def introduce(live: Live, prefix: str = "t-") -> None:
    """Make profiles for the server's first people, and for an application that may use keys named `prefix…`."""
    for name in ("custodian", "operator", "auditor"):
        profiles.write_profile(name, None, live.url, live.ca_file, live.tokens[name], replace=True)
    profiles.write_profile("app", None, live.url, live.ca_file, live.token(USES, [prefix + "*"]), replace=True)


@pytest.fixture
def people(live: Live, prompt: Prompt) -> Prompt:
    """Somebody at a prompt who holds profiles custodian, operator, auditor and app on the live server."""
    introduce(live)
    return prompt


@pytest.fixture
def own_people(own_live: Live, prompt: Prompt) -> Prompt:
    """The same on a server of the test's own."""
    introduce(own_live)
    return prompt

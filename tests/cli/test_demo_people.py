"""The demonstration of people: it proves what it says, and fails when a claim does not hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo import people_story
from demo.crew import Person
from tests.live import ENVIRONMENT


@pytest.mark.requirement("R16", "R31", "P3", "P9")
def test_the_story_of_people_proves_itself_and_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "demo/people.py")]
    done = subprocess.run(
        command, env={**ENVIRONMENT, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "NOT PROVEN" not in done.stdout and done.stdout.count("✓") > 24
    assert not any(tmp_path.iterdir())  # the home and the server's log went with it
    for secret in ("kct_", "kcs_", "kci_"):
        assert secret not in done.stdout + done.stderr


def test_a_claim_that_does_not_hold_ends_the_story(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def obeyed(_person: Person, *_call: object, **_more: object) -> str:
        return ""  # as if the server refused nothing

    monkeypatch.setattr(Person, "refused", obeyed)
    assert people_story.tell(0) == 1
    assert "NOT PROVEN" in capsys.readouterr().out

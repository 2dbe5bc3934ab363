"""A demonstration that cannot go on, or is told to stop, says so in a line and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import ENVIRONMENT

pytestmark = pytest.mark.requirement("P9")

ROOT = Path(__file__).resolve().parents[2]
SHOWN = {  # a line of each chapter's beginning, from the first moment to the middle of it
    "run.py": ("The records", "The ceremony", "keyclave serve", "Encrypt the folder"),
    "people.py": ("A house whose people", "Two let a third one in"),
}


def _start(script: str, *arguments: str, folder: Path, **streams: int) -> subprocess.Popen[str]:
    environment = {**ENVIRONMENT, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(ROOT / "demo" / script), *arguments]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, cwd=folder, **given)  # type: ignore[call-overload, no-any-return] # the streams are known by name only


@pytest.mark.parametrize(("script", "line"), [(script, line) for script, lines in SHOWN.items() for line in lines])
def test_ctrl_c_stops_it_at_any_moment(tmp_path: Path, script: str, line: str) -> None:
    run = _start(script, *(["--patients", "1"] if script == "run.py" else []), folder=tmp_path)
    assert run.stdout is not None
    assert any(line in shown for shown in run.stdout)
    os.killpg(run.pid, signal.SIGINT)  # a terminal tells all of them
    _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (130, "\nstopped\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/demo"])
def test_a_place_where_nothing_can_be_kept_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    run = _start("run.py", "--keep", place, folder=tmp_path)
    printed, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (2, "")
    assert "Not begun" in printed and place in printed
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_that_takes_nothing_is_a_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        run = _start("run.py", folder=tmp_path, stdout=full.fileno())
        _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors.count("\n")) == (1, 1)
    assert "No space left on device" in errors
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("script", ["run.py", "people.py"])
@pytest.mark.parametrize("number", ["99999", "-1", "x", "9" * 5000])
def test_a_port_that_is_none_is_refused_in_plain_words(tmp_path: Path, script: str, number: str) -> None:
    run = _start(script, f"--port={number}", folder=tmp_path)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "is not a whole number from 0 to 65535" in errors

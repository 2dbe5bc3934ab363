"""Where the report goes: outputs that are not UTF-8, full disks, closed pipes, and mistakes of the program's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyclave_verify import main as command
from tests.live import ENVIRONMENT
from tests.unit.audit.logs import Log, events, lay_down

pytestmark = pytest.mark.requirement("R5", "R7", "R40")

LOG = Log(events(300))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return a folder with a good log and its keys."""
    lay_down(LOG.files(), tmp_path / "log")
    (tmp_path / "vkeys").write_text(LOG.vkeys())
    return tmp_path


def run(here: Path, *more: str, encoding: str = "utf-8", **streams: Any) -> subprocess.CompletedProcess[bytes]:
    environment = ENVIRONMENT | {"PYTHONIOENCODING": encoding}
    arguments = [sys.executable, "-m", "keyclave_verify", "log", "log", "--vkey-file", "vkeys", *more]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(arguments, cwd=here, env=environment, check=False, timeout=60, **given)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_output_that_has_no_tick_gets_other_marks(encoding: str, here: Path) -> None:
    done = run(here, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"  + entries " in done.stdout and done.stdout.endswith(b"The log is intact.\n")
    (here / "log/tile/na\u00efve").touch()
    done = run(here, encoding=encoding)
    assert done.returncode == 1
    assert b"  x length " in done.stdout and b"tile/na\\xefve is no part of a log" in done.stdout
    assert json.loads(run(here, "--json", encoding=encoding).stdout)["faults"][0]["detail"].startswith("tile/na\u00efve ")


def test_a_name_that_is_not_utf_8_is_shown(here: Path) -> None:
    Path(os.fsdecode(bytes(here / "log/tile") + b"/\xff")).touch()
    assert b"tile/\\udcff is no part of a log" in run(here).stdout
    done = run(here, "--json")
    assert done.returncode == 1
    assert len(json.loads(done.stdout)["faults"]) == 1


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_report_that_was_not_written_is_no_verdict(form: tuple[str, ...], here: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run(here, *form, stdout=full)
        assert done.returncode == 2
        assert done.stderr == b"keyclave-verify: the report could not be written: No space left on device\n"
        assert run(here, *form, stdout=full, stderr=full).returncode == 2
    reading, writing = os.pipe()
    os.close(reading)
    done = run(here, *form, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (2, b"keyclave-verify: the report could not be written: Broken pipe\n")


def test_without_an_output_there_is_no_verdict(here: Path) -> None:
    program = 'exec "$0" -m keyclave_verify log log --vkey-file vkeys >&-'
    done = subprocess.run(["sh", "-c", program, sys.executable], cwd=here, env=ENVIRONMENT, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"there is no standard output" in done.stderr


def test_a_mistake_of_the_programs_own_is_no_verdict(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise IndexError("out of range\x1b[2J")

    monkeypatch.setattr(command, "verify_log", broken)
    assert command.main(["log", str(here / "log"), "--vkey-file", str(here / "vkeys")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("keyclave-verify: it could not be checked: IndexError: out of range\\x1b[2J; tell")

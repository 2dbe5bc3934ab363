"""Every requirement that claims to be met is shown by a test, and the trace notices when one is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT

SCRIPT = ROOT / "scripts" / "trace_requirements.py"

PAGE = """# Requirements

### R1 · Sealed
Text.
Status: met. By this.

### R2, R3 · Seen
Text.
Status: not yet.

### P1 · Promised
Text.
Status: partly. The first half.
"""

TESTS = """
import pytest

@pytest.mark.requirement("R1", "P1")
def test_sealed(): ...
"""


def trace(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the script over a tree."""
    return subprocess.run([sys.executable, str(SCRIPT), str(root)], capture_output=True, text=True, check=False)


def planted(root: Path, page: str = PAGE, tests: str = TESTS, name: str = "test_a.py") -> subprocess.CompletedProcess[str]:
    """Run the script over a planted page and one file of tests."""
    (root / "docs").mkdir()
    (root / "docs" / "requirements.md").write_text(page)
    (root / "tests" / "unit").mkdir(parents=True)
    (root / "tests" / "unit" / name).write_text(tests)
    return trace(root)


def test_the_repository_shows_what_it_claims() -> None:
    run = trace(ROOT)
    assert run.returncode == 0, run.stderr


def test_all_requirements_and_promises_are_stated() -> None:
    printed = trace(ROOT).stdout
    stated = sorted(line.split()[0] for line in printed.splitlines() if line[:1] in ("R", "P"))
    assert stated == sorted([f"R{n}" for n in range(1, 49)] + [f"P{n}" for n in range(1, 10)])


def test_a_sound_trace_is_printed(tmp_path: Path) -> None:
    run = planted(tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "R1   met      Sealed\n              tests/unit/test_a.py::test_sealed\n" in run.stdout
    assert "4 requirements and promises: 1 met, 1 partly, 2 not yet; 1 tests show them" in run.stdout


@pytest.mark.parametrize(
    "tests",
    [
        'import pytest\npytestmark = [pytest.mark.requirement("R1", "P1")]\ndef test_a(): ...\n',
        'import pytest\n@pytest.mark.requirement("R1", "P1")\nclass TestA:\n    def test_a(self): ...\n',
        'from pytest import mark as m, param\nONE = param(1, marks=m.requirement("R1", "P1"))\ndef test_a(): ...\n',
    ],
    ids=["module", "class", "parameter"],
)
def test_marks_count_wherever_pytest_takes_them(tests: str, tmp_path: Path) -> None:
    assert planted(tmp_path, tests=tests).returncode == 0


@pytest.mark.parametrize(
    ("page", "tests", "name", "fault"),
    [
        (PAGE, "", "test_a.py", "R1 claims to be met, and no test shows it"),
        (PAGE, TESTS.replace('"P1"', '"R2"'), "test_a.py", "P1 claims to be partly, and no test shows it"),
        (PAGE, TESTS.replace('"P1"', '"P1", "R77"'), "test_a.py", "shows R77, which docs/requirements.md does not know"),
        (PAGE, TESTS.replace("test_sealed", "sealed"), "test_a.py", "R1 stands on what pytest does not run"),
        (PAGE, TESTS, "sealing.py", "R1 stands on what pytest does not run"),
        (PAGE, TESTS.replace('"R1"', "ID"), "test_a.py", "the id of a requirement is written out"),
        (PAGE.replace("Status: not yet.\n", ""), TESTS, "test_a.py", "R2, R3 has no line `Status:"),
        (PAGE.replace("Status: met. By", "Status: done. By"), TESTS, "test_a.py", "R1 has no line `Status:"),
        (PAGE.replace("R2, R3", "R1, R3"), TESTS, "test_a.py", "R1 stands twice"),
    ],
)
def test_the_trace_finds_each_planted_fault(page: str, tests: str, name: str, fault: str, tmp_path: Path) -> None:
    run = planted(tmp_path, page, tests, name)
    assert run.returncode == 1
    assert fault in run.stderr

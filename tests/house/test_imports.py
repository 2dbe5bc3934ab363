"""Importing any module of the product opens nothing, and the watch sees it when one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT

WATCH = Path(__file__).with_name("import_watch.py")
PACKAGES = ("keyclave", "keyclave_client", "keyclave_cli", "keyclave_verify")

PLANTED = {
    "reads": "from pathlib import Path\nTEXT = Path(__file__).read_text()\n",
    "writes": "import os\nos.close(os.open(os.devnull, os.O_WRONLY))\n",
    "connects": "import socket\nsocket.socket().close()\n",
    "queries": "import sqlite3\nsqlite3.connect(':memory:').close()\n",
    "runs": "import subprocess\nsubprocess.run(['true'])\n",
    "threads": "import threading\nE = threading.Event()\nthreading.Thread(target=E.wait, daemon=True).start()\n",
}


def watch(source: Path, *packages: str) -> subprocess.CompletedProcess[str]:
    """Run the watch in a process of its own: an audit hook cannot be taken off again."""
    command = [sys.executable, str(WATCH), str(source), *packages]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_importing_the_product_opens_nothing() -> None:
    run = watch(ROOT / "src", *PACKAGES)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("name", PLANTED)
def test_the_watch_sees_a_planted_opening(name: str, tmp_path: Path) -> None:
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / f"{name}.py").write_text(PLANTED[name])
    run = watch(tmp_path, "planted")
    assert run.returncode == 1, run.stderr
    assert f"planted.{name}: " in run.stdout


def test_the_watch_lets_a_quiet_module_pass(tmp_path: Path) -> None:
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text("import json, ssl, decimal\nfrom sqlalchemy import MetaData\n")
    run = watch(tmp_path, "planted")
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr

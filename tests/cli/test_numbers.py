"""Numbers of the server's command line that no server could have are refused at once, with their range."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import ENVIRONMENT


@pytest.mark.parametrize(
    ("words", "range_"),
    [
        ("serve --port 99999", "from 0 to 65535"),
        ("serve --port=-1", "from 0 to 65535"),
        ("serve --workers 0", "from 1 to 64"),
        ("serve --workers 65", "from 1 to 64"),
        ("serve --workers two", "from 1 to 64"),
        ("init --port 99999", "from 1 to 65535"),
        ("init --port 0", "from 1 to 65535"),
        ("init --data-port 65536", "from 1 to 65535"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_range(tmp_path: Path, words: str, range_: str) -> None:
    command = [sys.executable, "-m", "keyclave_cli", *words.split(), "--home", "home"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert f"is not a whole number {range_}" in done.stderr
    assert not list(tmp_path.iterdir())

"""Programs that check what lies in deploy/, called on the files themselves or on copies with a planted fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def program(name: str) -> str:
    """Return where a program is; scripts/setup test installs each of them."""
    found = shutil.which(name, path=_PATH)
    assert found, f"{name} is not there; run scripts/setup test"
    return found


def run(*command: str | Path, stdin: bytes | None = None) -> tuple[int, str]:
    """Run a program and return its exit code and everything it said."""
    words = [program(str(command[0])), *(str(word) for word in command[1:])]
    done = subprocess.run(words, input=stdin or b"", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    return done.returncode, done.stdout.decode(errors="replace")

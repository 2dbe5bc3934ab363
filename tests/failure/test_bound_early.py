"""The server's programs have every library call bound before they see a key: the linker would save registers on the stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
if os.environ.get("LD_BIND_NOW"):
    print(os.getpid(), os.environ["LD_BIND_NOW"], *sys.argv[1:])
    sys.exit()
print(os.getpid())
sys.stdout.flush()
from keyclave.app.__main__ import main
main()
"""


@pytest.mark.requirement("R1", "P7")
def test_a_program_begins_again_once_as_itself(repository: Path) -> None:
    """The same process, the same arguments, and no third time."""
    environment = {"PYTHONPATH": str(repository / "src"), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", PROGRAM, "serve", "--home", "no such home"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    first, second = run.stdout.splitlines()
    assert second == f"{first} 1 serve --home no such home"


@pytest.mark.requirement("R1", "P7")
def test_a_program_that_is_bound_goes_on(repository: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(repository / "src"), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "keyclave.app", "serve", "--home", str(tmp_path / "none")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.startswith("keyclave: ")

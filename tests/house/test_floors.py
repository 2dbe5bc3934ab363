"""The floors hold, and the contract of each finds a breach that is planted for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.house.source import ROOT

LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"

# Each contract of pyproject.toml, and modules that break it.
BREACHES: dict[str, dict[str, str]] = {
    "A room imports only rooms of lower floors": {
        "keyclave/core/planted_climber.py": "from keyclave.operations import desk",
        "keyclave/roots/planted_sibling.py": "from keyclave.keys import states",
        "keyclave/audit/planted_sibling.py": "from keyclave.envelope import header",
        "keyclave/store/planted_climber.py": "from keyclave.protocols.rest import problems",
        "keyclave/operations/planted_chooser.py": "from keyclave.app import config",
        "keyclave/console/planted_sibling.py": "from keyclave.protocols.rest import gateway",
        "keyclave/protocols/planted_sibling.py": "from keyclave.console import pages",
    },
    "Only app chooses a store, a root and a crypto module": {
        "keyclave/operations/planted_store.py": "from keyclave.store import sqlite",
        "keyclave/protocols/planted_root.py": "def late():\n    from keyclave.roots import software",
        "keyclave/operations/planted_module.py": "from keyclave.crypto import pyca",
    },
    "Only crypto and roots use a cryptographic library": {
        "keyclave/audit/planted_hash.py": "import hashlib",
        "keyclave/app/planted_aead.py": "from cryptography.hazmat.primitives.ciphers import aead",
    },
    "Only app opens the TLS listener": {"keyclave/protocols/planted_tls.py": "import ssl"},
    "The pure rooms and the protocols know no database": {
        "keyclave/policy/planted_query.py": "import sqlite3",
        "keyclave/protocols/planted_query.py": "import sqlalchemy",
    },
    "Only protocols and app know the web": {"keyclave/operations/planted_web.py": "from starlette import requests"},
    "The server imports nothing of its clients": {"keyclave/operations/planted_caller.py": "import keyclave_client"},
    "Client, command line and verifier import nothing of the server": {
        "keyclave_client/planted_server.py": "from keyclave.core import errors",
        "keyclave_verify/planted_server.py": "from keyclave.audit import event",
    },
    "The command line stands on client and verifier, which do not know each other": {
        "keyclave_client/planted_cli.py": "import keyclave_cli",
        "keyclave_verify/planted_client.py": "import keyclave_client",
    },
}


def lint(source: Path, config: Path) -> tuple[int, str]:
    """Run the import contracts over `source`; return the exit code and what was printed."""
    run = subprocess.run(
        [sys.executable, "-c", LINT, "--no-logo", "--no-cache", str(config)],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "300", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def contracts() -> list[str]:
    """Return the names of the contracts."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [contract["name"] for contract in config["tool"]["importlinter"]["contracts"]]


def test_every_contract_holds() -> None:
    code, printed = lint(ROOT / "src", ROOT / "pyproject.toml")
    assert code == 0, printed
    assert f"{len(contracts())} kept, 0 broken" in printed


def test_every_contract_finds_the_breaches_planted_for_it(tmp_path: Path) -> None:
    assert sorted(BREACHES) == sorted(contracts())
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for planted in BREACHES.values():
        for name, text in planted.items():
            (source / name).write_text(text + "\n")
    code, printed = lint(source, ROOT / "pyproject.toml")
    assert code != 0
    assert f"0 kept, {len(BREACHES)} broken" in printed, printed
    for planted in BREACHES.values():
        for name in planted:
            module = name.removesuffix(".py").replace("/", ".")
            assert re.search(rf"{re.escape(module)}\b", printed), f"{module} is not named in:\n{printed}"


def test_a_room_without_a_floor_is_found(tmp_path: Path) -> None:
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (source / "keyclave" / "annexe").mkdir()
    (source / "keyclave" / "annexe" / "__init__.py").write_text("")
    code, printed = lint(source, ROOT / "pyproject.toml")
    assert code != 0
    assert "annexe" in printed

"""The code keeps the rules of the house, and each rule finds a breach that is planted for it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house import code_rules
from tests.house.source import ROOT, SERVER, python_files

Rule = Callable[[Path], list[str]]

RULES: dict[Rule, dict[str, str]] = {
    code_rules.without_purpose: {
        "src/keyclave/core/silent.py": "import sys\n",
        "tests/unit/silent.py": "",
    },
    code_rules.catch_all_names: {
        "src/keyclave/core/utils.py": '"""Bits."""\n',
        "src/keyclave/common/__init__.py": '"""Bits."""\n',
        "tests/key_helpers.py": '"""Bits."""\n',
    },
    code_rules.crypto_outside_its_rooms: {
        "src/keyclave/audit/a.py": "import hashlib\n",
        "src/keyclave/audit/b.py": "from cryptography.hazmat.primitives import hashes\n",
        "src/keyclave/app/c.py": "def late():\n    import hmac\n",
        "src/keyclave/store/d.py": "from importlib import import_module\nimport_module('secrets')\n",
        "src/keyclave/protocols/e.py": "import ssl\n",
        "src/keyclave/core/f.py": "__import__('ctypes')\n",
        "src/keyclave/store/embedded/background_sync.py": "import hashlib\n",
    },
    code_rules.server_in_other_packages: {
        "src/keyclave_client/a.py": "from keyclave.core import errors\n",
        "src/keyclave_cli/b.py": "def late():\n    import keyclave\n",
        "src/keyclave_verify/c.py": "import keyclave.core.canonical\n",
    },
    code_rules.states_given_elsewhere: {
        "src/keyclave/operations/a.py": "version.state = State.ACTIVE\n",
        "src/keyclave/operations/b.py": "replace(version, state=other.state)\n",
        "src/keyclave/operations/c.py": "msgspec.structs.replace(version, state=State.ACTIVE)\n",
        "src/keyclave/operations/d.py": "object.__setattr__(version, 'state', after)\n",
        "src/keyclave/store/e.py": "update(versions).values(state='destroyed')\n",
        "src/keyclave/store/f.py": "version.state, other = State.ACTIVE, 1\n",
        "src/keyclave/keys/g.py": "Version(number=1, state=State.ACTIVE)\n",
    },
}

KEPT: dict[Rule, dict[str, str]] = {
    code_rules.crypto_outside_its_rooms: {
        "src/keyclave/crypto/a.py": "import hashlib\n",
        "src/keyclave/roots/b.py": "import ctypes\n",
        "src/keyclave/store/embedded/background_sync.py": "import ctypes\n",
        "src/keyclave/app/c.py": "import ssl\n",
    },
    code_rules.states_given_elsewhere: {
        "src/keyclave/keys/transitions.py": "msgspec.structs.replace(version, state=after)\n",
        "src/keyclave/store/b.py": "Version(state=State(row.state))\nself.state = version.state\n",
        "src/keyclave/operations/c.py": "Version(number=1, state=FIRST)\nrequest.state.caller = who\nif v.state == 1: pass\n",
    },
}


def plant(root: Path, files: dict[str, str]) -> None:
    """Write `files` under `root`."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Rule) -> None:
    assert rule(ROOT) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_finds_each_planted_breach(rule: Rule, tmp_path: Path) -> None:
    plant(tmp_path, RULES[rule])
    found = {line.split(":")[0] for line in rule(tmp_path)}
    assert found == set(RULES[rule])


@pytest.mark.parametrize("rule", KEPT, ids=lambda rule: rule.__name__)
def test_the_rule_lets_through_what_it_should(rule: Rule, tmp_path: Path) -> None:
    plant(tmp_path, KEPT[rule])
    assert rule(tmp_path) == []


def test_the_rules_look_at_the_whole_server() -> None:
    rooms = {path.relative_to(ROOT).parts[2] for path in python_files(ROOT, SERVER)}
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    floors = config["tool"]["importlinter"]["contracts"][0]["layers"]
    assert {room.strip() for floor in floors for room in floor.split("|")} <= rooms

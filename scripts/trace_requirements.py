"""Prints which tests show each requirement, from docs/requirements.md and the `requirement` marks of the tests.

    python scripts/trace_requirements.py [TOP FOLDER]

Fails (exit code 1) when a requirement that claims to be met, or met in part, has no test that shows it; when a mark names an
unknown requirement; and when a mark stands where pytest runs no test. It reads syntax trees and imports nothing, so it needs
neither the tests' packages nor the product's.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STATUSES = ("met", "partly", "not yet")
CLAIMS = ("met", "partly")

HEADING = re.compile(r"^### ((?:[RP]\d+)(?:, [RP]\d+)*) · (.+)$")
STATUS = re.compile(r"^Status: (met|partly|not yet)(?:\. .+|\.)?$")


@dataclass(frozen=True)
class Requirement:
    """A requirement or promise, as docs/requirements.md states it."""

    id: str
    title: str
    status: str


@dataclass(frozen=True)
class Mark:
    """A mark on a test: the requirement's id and the test that shows it."""

    id: str
    test: str


def requirements(page: str) -> tuple[list[Requirement], list[str]]:
    """Return the requirements of the page, and what is wrong with the page."""
    found: list[Requirement] = []
    faults: list[str] = []
    pending: tuple[list[str], str] | None = None
    for line in [*page.splitlines(), "### R0 · end"]:
        heading, status = HEADING.match(line), STATUS.match(line)
        if heading:
            if pending:
                faults.append(f"{', '.join(pending[0])} has no line `Status: {' | '.join(STATUSES)}`")
            pending = (heading[1].split(", "), heading[2])
        elif status and pending:
            found += [Requirement(id, pending[1], status[1]) for id in pending[0]]
            pending = None
    ids = [requirement.id for requirement in found]
    faults += [f"{id} stands twice" for id in sorted({id for id in ids if ids.count(id) > 1})]
    return found, faults


def _ids(node: ast.AST) -> list[ast.expr] | None:
    """Return the arguments of `pytest.mark.requirement(...)`, or None when the node is something else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement":
        return node.args
    return None


def _scopes(tree: ast.Module, file: str) -> Iterator[tuple[ast.AST, str, bool]]:
    """Yield every node with the test it belongs to, and whether pytest runs that."""

    def inside(node: ast.AST, name: str, runs: bool) -> Iterator[tuple[ast.AST, str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from inside(child, f"{name}::{child.name}", child.name.startswith("test"))
            elif isinstance(child, ast.ClassDef):
                yield from inside(child, f"{name}::{child.name}", child.name.startswith("Test"))
            else:
                yield child, name, runs
                yield from inside(child, name, runs)

    yield from inside(tree, file, True)


def marks(tests: Path) -> tuple[list[Mark], list[str]]:
    """Return the marks of all test files under `tests`, and those that count for nothing."""
    found: list[Mark] = []
    faults: list[str] = []
    for path in sorted(tests.rglob("*.py")):
        file = path.relative_to(tests.parent).as_posix()
        for node, test, runs in _scopes(ast.parse(path.read_text(encoding="utf-8"), file), file):
            for argument in _ids(node) or []:
                if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
                    faults.append(f"{file}:{argument.lineno}: the id of a requirement is written out")
                elif not runs or not path.name.startswith("test_"):
                    faults.append(f"{file}:{argument.lineno}: {argument.value} stands on what pytest does not run")
                else:
                    found.append(Mark(argument.value, test))
    return found, faults


def trace(root: Path) -> tuple[str, list[str]]:
    """Return the table and every fault."""
    wanted, faults = requirements((root / "docs" / "requirements.md").read_text(encoding="utf-8"))
    marked, misplaced = marks(root / "tests")
    faults += misplaced
    shown = {requirement.id: sorted({mark.test for mark in marked if mark.id == requirement.id}) for requirement in wanted}
    faults += [f"{r.id} claims to be {r.status}, and no test shows it" for r in wanted if r.status in CLAIMS and not shown[r.id]]
    faults += [f"{m.test} shows {m.id}, which docs/requirements.md does not know" for m in marked if m.id not in shown]
    lines = []
    for requirement in wanted:
        lines.append(f"{requirement.id:<4} {requirement.status:<8} {requirement.title}")
        lines += [f"{'':14}{test}" for test in shown[requirement.id]]
    counts = ", ".join(f"{sum(r.status == status for r in wanted)} {status}" for status in STATUSES)
    lines.append(f"\n{len(wanted)} requirements and promises: {counts}; {len({mark.test for mark in marked})} tests show them")
    return "\n".join(lines), faults


def main(arguments: list[str]) -> int:
    """Print the trace of the repository at the given folder (default: the one this script stands in)."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    table, faults = trace(root)
    print(table)
    for fault in faults:
        print(f"trace: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

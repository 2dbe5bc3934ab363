"""The repository as the rules see it: which files belong to it, and the syntax trees of the Python ones."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVER = ("src/keyclave",)
PRODUCT = ("src",)
EVERYTHING = ("src", "tests", "scripts", "bench", "drill", "demo", "deploy")

_MADE = {"__pycache__", ".git", ".venv", ".venv-bench", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "build"}


def python_files(root: Path, folders: tuple[str, ...]) -> Iterator[Path]:
    """Yield the Python files under `folders` of `root`, sorted."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            if not _MADE.intersection(path.relative_to(root).parts):
                yield path


def kept_files(root: Path) -> list[Path]:
    """Return the files that belong to the repository: what git keeps or would keep; without git, all but what tools made."""
    git = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(git, capture_output=True, check=False) if (root / ".git").exists() else None
    if listing is not None and listing.returncode == 0:
        found = [root / name for name in listing.stdout.decode().split("\0") if name]
    else:
        found = [path for path in root.rglob("*") if not _MADE.intersection(path.relative_to(root).parts)]
    return sorted(path for path in found if path.is_file())


def text_of(path: Path) -> str | None:
    """Return the text of a file, or None when it is not text."""
    raw = path.read_bytes()
    if b"\0" in raw[:8192]:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=2048)
def _parsed(path: Path, stamp: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return _parsed(path, path.stat().st_mtime_ns)


def at(root: Path, path: Path, line: int = 0) -> str:
    """Return where a breach stands, as editors like it."""
    name = path.relative_to(root).as_posix()
    return f"{name}:{line}" if line else name

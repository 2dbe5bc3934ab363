"""Rules about everything that is not code: links, locks, the changelog, the specification's index, what may not be written down.

Each takes the top folder of a repository and returns its breaches, one line each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import at, kept_files, text_of

# A file that names a registry or mirror breaks where another one is used; a path of one machine breaks everywhere else.
REGISTRY = re.compile(
    r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|deb[.]debian[.]org|proxy[.]golang[.]org|--(?:extra-)?index-url|--find-links"
)
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:work|farm|root|home/[a-z]\w*|Users/\w+|opt/(?:pypi|wheels)\S*)/")

REFUSING = ("lock", "paper_rules.py")  # they name the options in order to refuse them
PLANTING = ("test_papers.py",)  # it holds the breaches that the rules must find

LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
MENTION = re.compile(r"(?<![\w./-])((?:docs|spec|vectors)/[\w./-]*\w\.(?:md|txt|json))\b")
PINNED = re.compile(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}")
MAKE = re.compile(r"`make ([a-z]+)[` ]")
TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def _texts(root: Path, *suffixes: str) -> Iterator[tuple[Path, str]]:
    for path in kept_files(root):
        if not suffixes or path.suffix in suffixes:
            text = text_of(path)
            if text is not None:
                yield path, text


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def places_of_one_machine(root: Path) -> list[str]:
    """Return lines that name a package registry or a path of one machine."""
    found = []
    for path, text in _texts(root):
        if path.name in PLANTING:
            continue
        patterns = (MACHINE_PATH,) if path.name in REFUSING else (REGISTRY, MACHINE_PATH)
        found += [at(root, path, _line(text, m.start())) for pattern in patterns for m in pattern.finditer(text)]
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors that the headings of a page make."""
    made: set[str] = set()
    for title in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        name, again = plain, 0
        while name in made:
            again += 1
            name = f"{plain}-{again}"
        made.add(name)
    return made


def dead_links(root: Path) -> list[str]:
    """Return links of our pages that lead nowhere inside the repository. (Outside, only the reader's browser can tell.)"""
    found = []
    for path, text in _texts(root, ".md"):
        for match in LINK.finditer(FENCE.sub(lambda fenced: re.sub(r"[^\n]", " ", fenced[0]), text)):
            target, _, anchor = match[1].partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            page = (path.parent / target).resolve() if target else path
            missing_anchor = anchor and page.suffix == ".md" and page.is_file() and anchor not in anchors(page.read_text())
            if not page.exists() or missing_anchor:
                found.append(f"{at(root, path, _line(text, match.start()))} -> {match[1]}")
    return found


def mentions_of_nothing(root: Path) -> list[str]:
    """Return mentions of our own papers, in code or prose, that do not exist."""
    found = []
    for path, text in _texts(root, ".py", ".md", ".toml"):
        if "tests/house" in path.as_posix():
            continue
        for match in MENTION.finditer(text):
            if not (root / match[1]).exists():
                found.append(f"{at(root, path, _line(text, match.start()))} -> {match[1]}")
    return found


def targets_of_nothing(root: Path) -> list[str]:
    """Return `make` commands in our pages that the Makefile does not know."""
    known = set(TARGET.findall((root / "Makefile").read_text()))
    found = []
    for path, text in _texts(root, ".md"):
        found += [f"{at(root, path, _line(text, m.start()))} -> make {m[1]}" for m in MAKE.finditer(text) if m[1] not in known]
    return found


def loose_locks(root: Path) -> list[str]:
    """Return packages of the locks without a pinned version or hash, and lines that name a place to download from."""
    found = []
    locks = sorted(root.glob("requirements*.lock"))
    sources = {path.with_suffix(".lock") for path in root.glob("requirements*.in")}
    found += [f"{at(root, lock)} is missing" for lock in sorted(sources - set(locks))]
    for lock in locks:
        text = lock.read_text()
        found += [at(root, lock, _line(text, m.start())) for m in re.finditer(r"://|^--|^-[a-z] ", text, re.MULTILINE)]
        for entry in re.sub(r"\\\n", " ", text).splitlines():
            if entry.strip() and entry[0] != "#" and not PINNED.match(entry):
                found.append(f"{at(root, lock)}: {entry.split()[0]}")
    return found


def changelog(root: Path) -> list[str]:
    """Return what is wrong with the changelog: the change at hand is told under Unreleased, which stands first."""
    headings = re.findall(r"^## (.+)$", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    return [] if headings[:1] == ["Unreleased"] else ["CHANGELOG.md: the first section is not Unreleased"]


def unlisted_specifications(root: Path) -> list[str]:
    """Return pages of spec/ that its index leaves out, and entries of the index without a page."""
    index = (root / "spec" / "README.md").read_text()
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    there = {path.name for path in (root / "spec").glob("*.md")} - {"README.md"}
    return [f"spec/{name} is not in the index" for name in sorted(there - listed)] + [
        f"spec/{name} does not exist" for name in sorted(listed - there)
    ]


def loose_decisions(root: Path) -> list[str]:
    """Return decision records that are not numbered in a row, or that lack one of their three parts."""
    found = []
    pages = sorted((root / "docs" / "decisions").glob("[0-9]*.md"))
    for place, page in enumerate(pages, 1):
        text = page.read_text()
        if not page.name.startswith(f"{place:04d}-"):
            found.append(f"{at(root, page)}: expected number {place:04d}")
        missing = [part for part in ("Context", "Options", "Outcome") if f"\n## {part}\n" not in text]
        found += [f"{at(root, page)}: no section {part}" for part in missing]
    return found

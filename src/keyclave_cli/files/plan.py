"""What is to be done: which files, each with the place of its result.

Folders are walked in name order, links are never followed (a link planted in a folder must not pull in what lies
elsewhere), and two inputs that would end in one place are refused before anything is touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from keyclave_cli.problems import USAGE, Stop

SUFFIX = ".kc"


class Item(NamedTuple):
    """One file to work on: where it is, where its result goes, and its size in bytes."""

    source: str
    dest: str
    size: int


class Found(NamedTuple):
    """A regular file; `relative` is its path under the argument that led to it, `explicit` that it was named itself."""

    path: str
    relative: str
    size: int
    explicit: bool


class Plan(NamedTuple):
    """The work, and what was left aside: path and why."""

    items: list[Item]
    aside: list[tuple[str, str]]


Naming = Callable[[str, bool], str | None]
"""Given a relative path and whether it was named itself: the result's relative path, or None to leave the file alone."""


def find(paths: Sequence[str], aside: list[tuple[str, str]]) -> Iterator[Found]:
    """Yield the regular files at and under `paths`; what is neither file nor folder goes to `aside`."""
    for path in paths:
        there = os.lstat(path)
        if stat.S_ISDIR(there.st_mode):
            yield from _walk(path, "", aside)
        elif stat.S_ISREG(there.st_mode):
            yield Found(path, os.path.basename(path), there.st_size, True)
        else:
            what = "a symbolic link" if stat.S_ISLNK(there.st_mode) else "not a regular file"
            raise Stop(f"{path} is {what}", "name the file or folder itself, or use `-` for pipes", USAGE)


def _walk(folder: str, relative: str, aside: list[tuple[str, str]]) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        below = os.path.join(relative, entry.name)
        if entry.is_symlink():
            aside.append((entry.path, "symbolic link"))
        elif entry.is_dir():
            yield from _walk(entry.path, below, aside)
        elif entry.is_file():
            yield Found(entry.path, below, entry.stat().st_size, False)
        else:
            aside.append((entry.path, "not a regular file"))


def plan(paths: Sequence[str], out: str | None, naming: Naming) -> Plan:
    """Return what is to be done. Without `out` each result lands beside its source, else at the same place under `out`."""
    items: list[Item] = []
    aside: list[tuple[str, str]] = []
    taken: dict[str, str] = {}
    for found in find(paths, aside):
        name = naming(found.path, found.explicit)
        if name is None:
            continue
        dest = os.path.join(os.path.dirname(found.path), name) if out is None else _under(out, found.relative, name)
        place = os.path.normpath(os.path.abspath(dest))
        other = taken.setdefault(place, found.path)
        if other != found.path:
            raise Stop(
                f"{other} and {found.path} would both become {dest}", "work on them one at a time, or without --out", USAGE
            )
        items.append(Item(found.path, dest, found.size))
    return Plan(items, aside)


def _under(out: str, relative: str, name: str) -> str:
    return os.path.join(out, os.path.dirname(relative), name)


def make_folder(path: str) -> None:
    """Make a folder and those above it, for their owner alone: what is decrypted into them may be anybody's record."""
    if not path or os.path.isdir(path):
        return
    make_folder(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise

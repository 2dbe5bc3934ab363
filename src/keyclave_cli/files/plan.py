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
    """The work; what was left aside: path and why; what could not be looked at, and what the system says."""

    items: list[Item]
    aside: list[tuple[str, str]]
    unreadable: list[tuple[str, OSError]]


Naming = Callable[[str, bool], str | None]
"""Given a relative path and whether it was named itself: the result's relative path, or None to leave the file alone."""


Unreadable = list[tuple[str, OSError]]


def find(paths: Sequence[str], aside: list[tuple[str, str]], unreadable: Unreadable) -> Iterator[Found]:
    """Yield the regular files at and under `paths`; what is neither file nor folder goes to `aside`, a folder that cannot be
    listed to `unreadable`."""
    for path in paths:
        there = os.lstat(path)
        if stat.S_ISDIR(there.st_mode):
            yield from _walk(path, "", aside, unreadable)
        elif stat.S_ISREG(there.st_mode):
            yield Found(path, os.path.basename(path), there.st_size, True)
        else:
            what = "a symbolic link" if stat.S_ISLNK(there.st_mode) else "not a regular file"
            raise Stop(f"{path} is {what}", "name the file or folder itself, or use `-` for pipes", USAGE)


def _walk(folder: str, relative: str, aside: list[tuple[str, str]], unreadable: Unreadable) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:  # one of many: the others are worked on all the same
        unreadable.append((folder, error))
        return
    for entry in ordered:
        below = os.path.join(relative, entry.name)
        if entry.is_symlink():
            aside.append((entry.path, "symbolic link"))
        elif entry.is_dir():
            yield from _walk(entry.path, below, aside, unreadable)
        elif entry.is_file():
            yield Found(entry.path, below, entry.stat().st_size, False)
        else:
            aside.append((entry.path, "not a regular file"))


def plan(paths: Sequence[str], out: str | None, naming: Naming) -> Plan:
    """Return what is to be done. Without `out` each result lands beside its source, else at the same place under `out`."""
    items: list[Item] = []
    aside: list[tuple[str, str]] = []
    unreadable: Unreadable = []
    taken: dict[str, Found] = {}  # places of results, and of what
    going: dict[str, str] = {}  # sources, and where their results go
    for found in find(paths, aside, unreadable):
        try:
            name = naming(found.path, found.explicit)
        except OSError as error:
            unreadable.append((found.path, error))
            continue
        if name is None:
            continue
        dest = os.path.join(os.path.dirname(found.path), name) if out is None else _under(out, found.relative, name)
        source, place = os.path.abspath(found.path), os.path.abspath(dest)
        if source in going and going[source] == place:  # named twice: two threads on it would be in each other's way
            continue
        if going.setdefault(source, place) != place:
            raise Stop(f"{found.path} is named twice, for two places: {going[source]} and {dest}", "name it once", USAGE)
        if place in taken:
            raise Stop(
                f"{taken[place].path} and {found.path} would both become {dest}",
                "work on them one at a time, or without --out",
                USAGE,
            )
        taken[place] = found
        items.append(Item(found.path, dest, found.size))
    return Plan(items, aside, unreadable)


def _under(out: str, relative: str, name: str) -> str:
    return os.path.join(out, os.path.dirname(relative), name)

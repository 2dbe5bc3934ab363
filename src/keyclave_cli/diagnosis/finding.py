"""A finding: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Grade(StrEnum):
    """How bad it is. `skipped` says that it could not be looked at."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """One line of the report; `advice` is empty where nothing need be done."""

    check: str
    grade: Grade
    said: str
    advice: str = ""


def ok(check: str, said: str) -> Finding:
    """Return a good finding."""
    return Finding(check, Grade.OK, said)


def warn(check: str, said: str, advice: str) -> Finding:
    """Return one that needs attention some time."""
    return Finding(check, Grade.WARN, said, advice)


def fail(check: str, said: str, advice: str) -> Finding:
    """Return one that needs attention now."""
    return Finding(check, Grade.FAIL, said, advice)


def skipped(check: str, said: str, advice: str = "") -> Finding:
    """Return one that could not be made."""
    return Finding(check, Grade.SKIPPED, said, advice)

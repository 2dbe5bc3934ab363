"""How a demonstration begins, and how it ends early: Ctrl-C, a full disk or a wrong number is one line, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

_ENDS = (signal.SIGINT, signal.SIGTERM)


def end_when_told() -> None:
    """Let Ctrl-C and SIGTERM end the story: its server ends with it, and what was temporary goes."""

    def stop(number: int, _frame: object) -> NoReturn:
        os.write(2, b"\nstopped\n")
        sys.exit(128 + number)

    for number in _ENDS:
        signal.signal(number, stop)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put away what there is without being told again to end."""
    before = [signal.signal(number, signal.SIG_IGN) for number in _ENDS]
    try:
        yield
    finally:
        for number, handler in zip(_ENDS, before, strict=True):
            signal.signal(number, handler)


def told(story: Callable[[], int]) -> int:
    """Tell a story and return its exit code; one that cannot be shown ends with a line that says why."""
    try:
        code = story()
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is not written yet would fail once more at the end
        sys.stderr.write(f"The demonstration cannot go on: {error}\n")
        return 1


def count(text: str) -> int:
    """Read how many patients there are to be."""
    return _number(text, 1, 10_000)


def port(text: str) -> int:
    """Read a port."""
    return _number(text, 0, 65_535)


def _number(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and least <= int(text) <= most):
        raise ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return int(text)

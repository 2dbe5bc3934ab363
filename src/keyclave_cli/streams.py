"""The three standard streams, of which whoever starts a program may have closed some."""

from __future__ import annotations

import io
import os
import sys
from typing import BinaryIO

from keyclave_cli.problems import USAGE, Stop


class _Nothing(io.TextIOBase):
    """A standard input that is closed: whoever would read from it hears that, and an empty record is not what comes of it."""

    @property
    def buffer(self) -> BinaryIO:
        """Refuse to give bytes."""
        raise Stop("standard input is closed", "feed something in (keyclave … < FILE), or name a file instead of -", USAGE)

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override] # TextIOBase names its parameter otherwise
        """Refuse to give a line."""
        raise Stop("standard input is closed", "run it at a terminal, or feed in what it asks for", USAGE)


def prepare() -> None:
    """Have three streams. What a terminal of another alphabet cannot show is spelled out: it is no reason to stop half way."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)  # else what is opened next is a standard stream, for programs that are started too
    os.close(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    if sys.stdin is None:
        sys.stdin = _Nothing()
    if sys.stdout is None:
        raise Stop("standard output is closed", "leave it open, or send it somewhere: keyclave … > FILE", USAGE)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

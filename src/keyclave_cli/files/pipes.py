"""`-`: from stdin to stdout, with the manners a terminal asks for.

Ciphertext is not written to a terminal, nor is it read from one; what is decrypted for a terminal is shown only if it
is text, since control characters in a record could make the terminal do things.
"""

from __future__ import annotations

import io
import sys
from typing import BinaryIO

from keyclave_cli.output import note
from keyclave_cli.problems import USAGE, Stop

_SHOWN = 1 << 20  # bytes of plaintext that a terminal is given at most


def binary_stdin() -> BinaryIO:
    """Return stdin for text or bytes that a person may also type."""
    if sys.stdin.isatty():
        note("reading from the terminal; end with Ctrl-D on a line of its own")
    return sys.stdin.buffer


def ciphertext_stdin() -> BinaryIO:
    """Return stdin for ciphertext."""
    if sys.stdin.isatty():
        raise Stop("ciphertext cannot be typed", "name a file, or feed one in: keyclave … - < FILE", USAGE)
    return sys.stdin.buffer


def binary_stdout(what: str) -> BinaryIO:
    """Return stdout for bytes that are no text, unless that is a terminal."""
    if sys.stdout.isatty():
        raise Stop(f"{what} is not for a terminal", "send it to a file or program: keyclave … > FILE", USAGE)
    return sys.stdout.buffer


class PlaintextOut:
    """A sink for plaintext: stdout itself, or for a terminal a collector whose content `close` shows if it is text."""

    def __init__(self) -> None:
        self._collected = io.BytesIO() if sys.stdout.isatty() else None

    def write(self, data: bytes | memoryview) -> int:
        """Take plaintext."""
        if self._collected is None:
            return sys.stdout.buffer.write(data)
        if self._collected.tell() + len(data) > _SHOWN:
            raise Stop("that is too much for a terminal", "send it to a file: keyclave … > FILE")
        return self._collected.write(data)

    def close(self) -> None:
        """Show what was collected."""
        if self._collected is None:
            sys.stdout.buffer.flush()
            return
        try:
            text = self._collected.getvalue().decode()
        except UnicodeDecodeError:
            text = "\0"
        if not all(letter.isprintable() or letter in "\n\t\r" for letter in text):
            raise Stop("the plaintext is not text, and bytes are not for a terminal", "send it to a file: keyclave … > FILE")
        sys.stdout.write(text)
        if text and not text.endswith("\n"):
            note("")

"""Folders that results are put into, for their owner alone: what is decrypted into them may be anybody's record."""

from __future__ import annotations

import os
from contextlib import suppress


class Folders:
    """Those of one run. Several threads may make the same one."""

    def __init__(self) -> None:
        self._made: list[str] = []

    def make(self, path: str) -> None:
        """Make a folder and those above it."""
        if not path or os.path.isdir(path):
            return
        self.make(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return
        self._made.append(path)

    def drop_empty(self) -> None:
        """Remove those that nothing was put into, once the work is over; none that was there before."""
        for path in sorted(self._made, key=len, reverse=True):  # what is below a folder before it
            with suppress(OSError):
                os.rmdir(path)

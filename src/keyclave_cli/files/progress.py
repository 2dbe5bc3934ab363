"""Progress bars, for people at a terminal: one for bytes, one for files. Everywhere else they are silent."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bars:
    """Bars on stderr while the `with` block lasts. Safe to be told of progress by several threads."""

    def __init__(self, verb: str, files: int, size: int, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty() and files > 0
        self._verb = verb
        self._totals = (files, size)
        self._progress: Progress | None = None
        self._bytes: TaskID | None = None
        self._files: TaskID | None = None

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[unit]}"))
            self._progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            files, size = self._totals
            self._bytes = self._progress.add_task(self._verb, total=size, unit="of bytes")
            self._files = self._progress.add_task(" " * len(self._verb), total=files, unit=f"of {files:,} files")
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, count: int) -> None:
        """Count bytes that are done."""
        if self._progress is not None and self._bytes is not None:
            self._progress.advance(self._bytes, count)

    def finish(self, rest: int) -> None:
        """Count a file that is over, with the bytes of it that were not counted."""
        if self._progress is not None and self._files is not None:
            self.advance(max(0, rest))
            self._progress.advance(self._files, 1)

"""What the demonstration shows, and the one way in which it claims anything: `prove`, which ends it when a claim is false."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

T = TypeVar("T")


class Unproven(Exception):
    """A claim did not hold. Its text is the claim."""


class Done(NamedTuple):
    """One chapter in the summary."""

    title: str
    result: str
    seconds: float


class Screen:
    """A terminal, or a plain log where there is none."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._done: list[Done] = []
        self._proofs = 0
        self._result = ""

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """Show a heading; what happens inside is timed, and stands in the summary with what `result` said."""
        self._result = ""
        self._console.print(f"\n[bold cyan]{len(self._done) + 1:>2}  {title}[/]")
        began = time.perf_counter()
        yield
        self._done.append(Done(title, self._result, time.perf_counter() - began))

    def say(self, text: str) -> None:
        """Explain, in a quiet voice."""
        self._line("", f"[dim]{escape(text)}[/]")

    def command(self, words: str) -> None:
        """Show a command that is run now, as a person would type it."""
        self._console.print(f"    [bold]$[/] {escape(words)}", soft_wrap=True)

    def prove(self, holds: bool, claim: str) -> None:
        """Show a claim that holds; one that does not raises `Unproven` and nothing after it happens."""
        if not holds:
            raise Unproven(claim)
        self._proofs += 1
        self._line("[green]✓[/]", escape(claim))

    def result(self, text: str) -> None:
        """Say in a few words, for the summary, what the chapter came to."""
        self._result = text

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show rows; columns whose title ends in # stand to the right."""
        made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in columns:
            made.add_column(
                column.rstrip("#"), justify="right" if column.endswith("#") else "left", no_wrap=column != columns[-1]
            )
        for row in rows:
            made.add_row(*(escape(str(cell)) for cell in row))
        self._line("", made)

    def track(self, items: Sequence[T], doing: str) -> Iterator[T]:
        """Yield the items while a bar shows how far it is; the bar goes when all is done."""
        bar = Progress(
            TextColumn(f"    {doing}"), BarColumn(), MofNCompleteColumn(), console=self._console, transient=True,
            disable=not self._console.is_terminal,
        )  # fmt: skip
        with bar:
            yield from bar.track(items)

    def summary(self, where_next: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Show everything on one screen: each chapter with its result and time, and where to go next."""
        made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        made.add_column("Done")
        made.add_column("Result", ratio=1)
        made.add_column("Time", justify="right", no_wrap=True)
        for done in self._done:
            made.add_row(f"[green]✓[/] {done.title}", escape(done.result), f"{done.seconds:.1f} s")
        made.add_section()
        total = sum(done.seconds for done in self._done)
        made.add_row("[bold]All of it[/]", f"[bold]{self._proofs} claims, each of them checked[/]", f"[bold]{total:.1f} s[/]")
        self._console.print()
        self._console.print(Panel(made, title="[bold]Keyclave: what was just proven[/]", border_style="green"))
        for purpose, commands in where_next:
            self._console.print(f"  [dim]{escape(purpose)}[/]")
            for words in commands:
                self._console.print(f"    {escape(words)}", soft_wrap=True)
        self._console.print()

    def _line(self, mark: str, content: RenderableType) -> None:
        """Print with a mark in the margin; what is longer than a line goes on below its own beginning."""
        frame = Table.grid(padding=(0, 1, 0, 0))
        frame.add_column(width=5, justify="right", no_wrap=True)
        frame.add_column()
        frame.add_row(mark, content)
        self._console.print(frame)

    def fail(self, title: str, text: str, details: str = "") -> None:
        """Show what went wrong and where."""
        parts = [f"[bold]{escape(text)}[/]"] + ([escape(details)] if details else [])
        self._console.print()
        self._console.print(Panel(Group(*parts), title=f"[bold red]{escape(title)}[/]", border_style="red"))


def many(count: int, thing: str) -> str:
    """Return "1 file", "36 files"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def megabytes(size: int) -> str:
    """Return a size in MB (millions of bytes)."""
    return f"{size / 1e6:,.1f} MB"

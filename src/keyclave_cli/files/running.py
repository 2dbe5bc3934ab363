"""Doing the work: several files at a time, one that fails does not stop the others, and what cannot get better stops
at once.

Interrupting is safe at any moment: results appear whole or not at all, so running the same command again goes on
where this one ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import NamedTuple

from keyclave_cli.files.plan import Item
from keyclave_cli.files.progress import Bars
from keyclave_cli.problems import Problem, describe


class Fate(StrEnum):
    """What became of a file."""

    DONE = "done"
    ALREADY = "already done"
    FAILED = "failed"
    NOT_TRIED = "not tried"


class Outcome(NamedTuple):
    """One file's fate; `detail` and `problem` say more where there is more to say."""

    item: Item
    fate: Fate
    detail: str | None = None
    problem: Problem | None = None


class _Interrupted(Exception):
    """Raised inside a file's work to leave it in the middle."""


Progress = Callable[[int], None]
Work = Callable[[Item, Progress], tuple[Fate, str | None]]


class Crew:
    """Works through items with `jobs` threads. `hopeless` names the error codes that every further file would meet too."""

    def __init__(self, work: Work, jobs: int, hopeless: frozenset[str], bars: Bars) -> None:
        self._work = work
        self._jobs = jobs
        self._hopeless = hopeless
        self._bars = bars
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._busy = 0

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """Return each item's outcome, in the items' order. An interrupt is raised again once the threads have let go."""
        outcomes = [Outcome(item, Fate.NOT_TRIED) for item in items]
        waiting = iter(range(len(items)))
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="file") as pool:
            try:
                count = min(self._jobs, len(items))
                for labour in [pool.submit(self._labour, waiting, outcomes) for _ in range(count)]:
                    labour.result()
            except BaseException:
                # An interrupt, or a mistake in this program that is raised where it will be seen. The pool forgets a thread that
                # it was just starting when the interrupt came, so the threads are counted here.
                self._stop.set()
                with self._idle:
                    self._idle.wait_for(lambda: not self._busy)
                raise
        return outcomes

    def _labour(self, waiting: Iterator[int], outcomes: list[Outcome]) -> None:
        with self._idle:
            self._busy += 1
        try:
            while not self._stop.is_set():
                with self._idle:
                    number = next(waiting, None)
                if number is None:
                    return
                outcomes[number] = self._one(outcomes[number].item)
        except _Interrupted:
            return
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _one(self, item: Item) -> Outcome:
        counted = 0

        def progress(count: int) -> None:
            nonlocal counted
            if self._stop.is_set():
                raise _Interrupted
            counted += count
            self._bars.advance(count)

        try:
            fate, detail = self._work(item, progress)
        except _Interrupted:
            raise
        except Exception as error:
            problem = describe(error)
            if problem is None:
                raise
            if problem.code in self._hopeless:
                self._stop.set()
            self._bars.finish(item.size - counted)
            return Outcome(item, Fate.FAILED, problem=problem)
        self._bars.finish(item.size - counted)
        return Outcome(item, fate, detail)

"""Telling how it went: failures as they stand, one line that sums up, and the exit code."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from keyclave_cli import output
from keyclave_cli.files.plan import Item, Plan
from keyclave_cli.files.progress import Bars
from keyclave_cli.files.running import Crew, Fate, Outcome, Work
from keyclave_cli.problems import FAILED, OK, Problem, describe, show

GONE = frozenset({"sealed", "unreachable", "unavailable", "unauthenticated"})
"""Errors that the next file would meet as well."""


_NAMED = 20  # files that met what another met, and are named


def carry_out(work: Work, plan: Plan, verb: tuple[str, str], *, jobs: int, as_json: bool, hopeless: frozenset[str] = GONE) -> int:
    """Do the work, report it, and return the exit code. `verb`: during the work and after it ("encrypting", "encrypted")."""
    began = time.monotonic()
    with Bars(verb[0], len(plan.items), sum(item.size for item in plan.items), quiet=as_json) as bars:
        outcomes = Crew(work, jobs, hopeless, bars).run(plan.items) + unreadable(plan)
    return report(outcomes, plan.aside, verb[1], time.monotonic() - began, as_json=as_json)


def unreadable(plan: Plan) -> list[Outcome]:
    """Return what became of files and folders that could not even be looked at: they failed."""
    return [Outcome(Item(path, "", 0), Fate.FAILED, problem=describe(error)) for path, error in plan.unreadable]


def report(
    outcomes: Sequence[Outcome], aside: Sequence[tuple[str, str]], verb: str, seconds: float, *, as_json: bool,
    more: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Write the outcomes and return the exit code."""
    if as_json:
        output.write_json(
            {
                "files": [_as_object(outcome) for outcome in outcomes],
                "left_aside": [{"path": path, "why": why} for path, why in aside],
                "counts": dict(Counter(outcome.fate.value.replace(" ", "_") for outcome in outcomes)),
                **(more or {}),
            }
        )
    else:
        _tell(outcomes, aside, verb, seconds)
    return _exit_code(outcomes)


def _as_object(outcome: Outcome) -> dict[str, Any]:
    said: dict[str, Any] = {"source": outcome.item.source, "dest": outcome.item.dest, "fate": outcome.fate.value}
    if outcome.detail is not None:
        said["detail"] = outcome.detail
    if outcome.problem is not None:
        problem = outcome.problem
        said["error"] = {"code": problem.code, "detail": problem.detail, "hint": problem.hint}
    return said


def _tell(outcomes: Sequence[Outcome], aside: Sequence[tuple[str, str]], verb: str, seconds: float) -> None:
    for path, why in aside:
        output.note(f"left aside: {path} ({why})")
    _tell_problems(outcomes)
    done = [outcome for outcome in outcomes if outcome.fate is Fate.DONE]
    size = output.size_text(sum(outcome.item.size for outcome in done))
    parts = [f"{verb} {output.count_text(len(done), 'file')} ({size}) in {seconds:.1f} s"]
    counts = Counter(outcome.fate for outcome in outcomes)
    parts += [f"{counts[fate]:,} {fate.value}" for fate in (Fate.ALREADY, Fate.FAILED, Fate.NOT_TRIED) if counts[fate]]
    output.say(", ".join(parts))
    if counts[Fate.FAILED] or counts[Fate.NOT_TRIED]:
        output.note("  next: correct what failed and run the same command again; what is done is not done twice")


def _tell_problems(outcomes: Sequence[Outcome]) -> None:
    """Show what failed; where many files met the same, the first of them speaks for the rest."""
    alike: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.problem is not None:
            alike.setdefault((outcome.problem.code, outcome.problem.detail), []).append(outcome)
    for first, *others in alike.values():
        said = first.problem
        if said is None:
            continue
        named = said.detail if first.item.source in said.detail else f"{first.item.source}: {said.detail}"
        if others:
            named += f" (and so for {output.count_text(len(others), 'more file')})"
        show(Problem(said.code, named, said.hint, said.exit_code, said.event), as_json=False)
        for other in others[:_NAMED]:
            output.note(f"  also: {other.item.source}")
        if len(others) > _NAMED:
            output.note(f"  and {len(others) - _NAMED:,} more: --json names them all")


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    problems = [outcome.problem for outcome in outcomes if outcome.problem is not None]
    if not problems:
        return OK
    return max(problem.exit_code for problem in problems) if any(p.code in GONE for p in problems) else FAILED

"""Rows of figures: against which target they are held, how they look, and the flat records that others read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A bound. `of_peer`: on the ratio to the peer's figure, else on our own figure. `least`: at least it, else at most."""

    bound: float
    of_peer: bool
    least: bool


def times(bound: float) -> Target:
    """At least so many times the peer's figure."""
    return Target(bound, of_peer=True, least=True)


def share(bound: float) -> Target:
    """At most this share of the peer's figure."""
    return Target(bound, of_peer=True, least=False)


def at_least(bound: float) -> Target:
    """Our own figure, no smaller."""
    return Target(bound, of_peer=False, least=True)


def at_most(bound: float) -> Target:
    """Our own figure, no larger."""
    return Target(bound, of_peer=False, least=False)


@dataclass(frozen=True)
class Row:
    """One figure. `conditions` says all that is needed to judge it."""

    name: str
    ours: float
    unit: str
    conditions: str
    peer: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.ours / self.peer if self.peer else None

    @property
    def holds(self) -> bool | None:
        """Tell whether the target is met; None where there is none, or nothing to compare with."""
        if self.target is None:
            return None
        figure = self.ratio if self.target.of_peer else self.ours
        if figure is None:
            return None
        return figure >= self.target.bound if self.target.least else figure <= self.target.bound

    def record(self) -> dict[str, object]:
        """Return the flat record."""
        return {
            "name": self.name,
            "ours": _short(self.ours),
            "peer": None if self.peer is None else _short(self.peer),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "unit": self.unit,
            "conditions": self.conditions,
        }


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the records as a JSON list, whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps([row.record() for row in rows], indent=2, ensure_ascii=False) + "\n")
    partial.replace(path)


def render(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    head = ("", "ours", "peer", "unit", "ratio", "target", "")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    left = (0, 3, 6)
    lines = [
        "  ".join(f"{cell:<{width}}" if column in left else f"{cell:>{width}}" for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in cells)
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    target = row.target
    bound = ""
    if target is not None:
        bound = ("≥ " if target.least else "≤ ") + (f"{target.bound:.2f}x" if target.of_peer else _figure(target.bound))
    mark = {True: "holds", False: "MISSED", None: ""}[row.holds]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
    return (row.name, _figure(row.ours), "" if row.peer is None else _figure(row.peer), row.unit, ratio, bound, mark)


def _figure(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _short(value: float) -> float:
    """Round to what a measurement on a shared machine can mean: four digits."""
    return float(f"{value:.4g}")

"""What a drill saw: one flat record, a table of them for people, and the file for others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Result:
    """One drill. `seconds_to_serve` is the worst time from starting the process to serving again, unsealing included."""

    drill: str
    runs: int = 0
    acknowledged: int = 0  # keys, ciphertexts, credentials and events that the server had answered for
    lost: int = 0  # of those, how many were gone, wrong or unproven afterwards
    seconds_to_serve: float | None = None
    ok: bool = False
    notes: list[str] = field(default_factory=list)  # what was wrong, or worth knowing; not in the file

    def served_after(self, seconds: float) -> None:
        """Keep the worst time to serve."""
        self.seconds_to_serve = round(max(seconds, self.seconds_to_serve or 0.0), 3)

    def lose(self, what: str) -> None:
        """Count something lost."""
        self.lost += 1
        self.notes.append(what)

    def record(self) -> dict[str, object]:
        """Return the flat record."""
        row = asdict(self)
        del row["notes"]
        return row


def write(path: Path, results: Sequence[Result]) -> None:
    """Write the records as a JSON list, whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps([r.record() for r in results], indent=2) + "\n")
    partial.replace(path)


def table(results: Sequence[Result]) -> str:
    """Return the results for a terminal."""
    head = ("drill", "runs", "acknowledged", "lost", "worst seconds to serve", "ok")
    rows = [
        (
            r.drill,
            f"{r.runs:,}",
            f"{r.acknowledged:,}",
            f"{r.lost:,}",
            "" if r.seconds_to_serve is None else f"{r.seconds_to_serve:.2f}",
            "yes" if r.ok else "NO",
        )
        for r in results
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ["  ".join(f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
             for row in (head, *rows)]  # fmt: skip
    lines.insert(1, "  ".join("-" * w for w in widths))
    for r in results:
        lines += [f"  {r.drill}: {note}" for note in r.notes[:20]]
        if len(r.notes) > 20:
            lines.append(f"  {r.drill}: … and {len(r.notes) - 20:,} more")
    return "\n".join(lines)

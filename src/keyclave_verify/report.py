"""What a verification found: the checks it made, the faults it met, and both as text for people or JSON for machines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

_MOST_SHOWN = 20  # faults on a screen; JSON has them all
_MOST_KEPT = 10_000  # faults kept: a log that is not the one meant would otherwise fill the memory with them
_GREEN, _RED, _DIM, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


class Fault(Exception):
    """One thing that is wrong: `check` it belongs to, `code` for machines, `detail` for people."""

    def __init__(self, check: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.check = check
        self.code = code
        self.detail = detail


class Unusable(Exception):
    """The command cannot be carried out as given: a file is missing, a key is unreadable. Says nothing about the log."""


@dataclass
class Report:
    """The outcome of one verification. It is good when no fault was found."""

    subject: str
    verdict: str  # the sentence that holds when no fault was found
    checks: dict[str, str] = field(default_factory=dict)  # name of a check -> what it covered
    faults: list[Fault] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    unproved: list[str] = field(default_factory=list)  # what whoever reads the verdict might believe, and was not shown
    fault_count: int = 0

    @property
    def good(self) -> bool:
        """Return whether no fault was found."""
        return self.fault_count == 0

    def add(self, *faults: Fault) -> None:
        """Note faults."""
        self.fault_count += len(faults)
        self.faults.extend(faults[: max(0, _MOST_KEPT - len(self.faults))])

    def to_json(self) -> str:
        """Return a JSON object: good, subject, facts, checks (name, good, covered), faults (check, code, detail), fault_count,
        and not_proved where there is any."""
        failed = {fault.check for fault in self.faults}
        document = {
            "good": self.good,
            "subject": self.subject,
            **self.facts,
            "checks": [{"name": name, "good": name not in failed, "covered": text} for name, text in self.checks.items()],
            "faults": [{"check": f.check, "code": f.code, "detail": f.detail} for f in self.faults],
            "fault_count": self.fault_count,
            **({"not_proved": self.unproved} if self.unproved else {}),
        }
        return json.dumps(document, indent=2, ensure_ascii=False)

    def to_text(self, *, color: bool) -> str:
        """Return the report for a terminal."""
        green, red, dim, plain = (_GREEN, _RED, _DIM, _PLAIN) if color else ("", "", "", "")
        failed = {fault.check for fault in self.faults}
        lines = [_printable(self.subject)]
        for name, covered in self.checks.items():
            mark = f"{red}✗{plain}" if name in failed else f"{green}✓{plain}"
            lines.append(f"  {mark} {name:<11} {dim}{_printable(covered)}{plain}")
        lines += [f"  - not proved  {_printable(text)}" for text in self.unproved]
        lines += [f"  {red}fault{plain}  {_printable(fault.detail)}" for fault in self.faults[:_MOST_SHOWN]]
        if self.fault_count > _MOST_SHOWN:
            lines.append(f"  … and {self.fault_count - _MOST_SHOWN:,} more faults (--json lists them)")
        if self.good:
            lines.append(f"{green}{self.verdict}{plain}")
        else:
            count = "1 fault" if self.fault_count == 1 else f"{self.fault_count:,} faults"
            lines.append(
                f"{red}{count} found. Do not rely on this copy: keep it as evidence, and compare with another copy.{plain}"
            )
        return "\n".join(lines)


def _printable(text: str) -> str:
    """Return text that is safe on a terminal: what a tampered file says could otherwise steer the screen it is shown on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

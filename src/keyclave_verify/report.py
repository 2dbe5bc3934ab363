"""What a verification found: the checks it made, the faults it met, and both as text for people or JSON for machines."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

_MOST_SHOWN = 20  # faults on a screen; JSON has them all
_MOST_KEPT = 10_000  # faults kept of each check: a log that is not the one meant would otherwise fill the memory with them
_GREEN, _RED, _DIM, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
NOT_CHECKED = "not checked"


class Fault(Exception):
    """One thing that is wrong: `check` it belongs to, `code` for machines, `detail` for people."""

    def __init__(self, check: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.check = check
        self.code = code
        self.detail = detail


class Unusable(Exception):
    """The command cannot be carried out as given: a file is missing, a key is unreadable. Says nothing about the log."""


@dataclass(frozen=True)
class Marks:
    """How a report marks what it says."""

    good: str
    failed: str
    more: str


SIGNS, ASCII = Marks("✓", "✗", "…"), Marks("+", "x", "...")


@dataclass
class Report:
    """The outcome of one verification. It is good when no fault was found.

    `checks` has what each check covered. One that is None was not made: it is shown as that, never as one that held.
    """

    subject: str
    verdict: str  # the sentence that holds when no fault was found
    checks: dict[str, str | None] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    unproved: list[str] = field(default_factory=list)  # what whoever reads the verdict might believe, and was not shown
    failed: Counter[str] = field(default_factory=Counter)  # faults of each check, whether kept or not

    @property
    def fault_count(self) -> int:
        """Return how many faults were found."""
        return self.failed.total()

    @property
    def good(self) -> bool:
        """Return whether no fault was found."""
        return not self.failed

    @property
    def left_out(self) -> int:
        """Return how many faults are counted and not kept."""
        return self.fault_count - len(self.faults)

    def add(self, *faults: Fault) -> None:
        """Note faults. Those of one check never crowd out those of another."""
        for fault in faults:
            self.failed[fault.check] += 1
            if self.failed[fault.check] <= _MOST_KEPT:
                self.faults.append(fault)

    def _outcomes(self) -> list[tuple[str, bool | None, str]]:
        """Return name, outcome (None: not made) and cover of each check; one that failed is always among them."""
        names = dict.fromkeys((*self.checks, *self.failed))
        covered = {name: self.checks.get(name) for name in names}
        return [
            (name, False if name in self.failed else None if text is None else True, NOT_CHECKED if text is None else text)
            for name, text in covered.items()
        ]

    def to_json(self, *, ascii_only: bool = False) -> str:
        """Return a JSON object: good, subject, facts, checks (name, good, covered), faults (check, code, detail), fault_count,
        and where there are any faults_left_out and not_proved. A check that was not made is good: null."""
        document = {
            "good": self.good,
            "subject": self.subject,
            **self.facts,
            "checks": [{"name": name, "good": good, "covered": text} for name, good, text in self._outcomes()],
            "faults": [{"check": f.check, "code": f.code, "detail": f.detail} for f in self.faults],
            "fault_count": self.fault_count,
            **({"faults_left_out": self.left_out} if self.left_out else {}),
            **({"not_proved": self.unproved} if self.unproved else {}),
        }
        text = json.dumps(document, indent=2, ensure_ascii=ascii_only)
        return text if _is_unicode(text) else json.dumps(document, indent=2)  # a file's name need not be UTF-8

    def to_text(self, *, color: bool, marks: Marks = SIGNS) -> str:
        """Return the report for a terminal."""
        green, red, dim, plain = (_GREEN, _RED, _DIM, _PLAIN) if color else ("", "", "", "")
        signs = {True: f"{green}{marks.good}{plain}", False: f"{red}{marks.failed}{plain}", None: "-"}
        lines = [printable(self.subject)]
        lines += [f"  {signs[good]} {name:<11} {dim}{printable(text)}{plain}" for name, good, text in self._outcomes()]
        lines += [f"  - not proved  {printable(text)}" for text in self.unproved]
        lines += [f"  {red}fault{plain}  {printable(fault.detail)}" for fault in self._shown()]
        if self.fault_count > _MOST_SHOWN:
            kept = f"the first {_MOST_KEPT:,} of each check" if self.left_out else "them"
            lines.append(f"  {marks.more} and {self.fault_count - _MOST_SHOWN:,} more faults (--json lists {kept})")
        if self.good:
            lines.append(f"{green}{printable(self.verdict)}{plain}")
        else:
            count = "1 fault" if self.fault_count == 1 else f"{self.fault_count:,} faults"
            lines.append(
                f"{red}{count} found. Do not rely on this copy: keep it as evidence, and compare with another copy.{plain}"
            )
        return "\n".join(lines)

    def _shown(self) -> list[Fault]:
        """Return the faults for a screen: the first of each check, and of the others as many as there is room for."""
        firsts = {fault.check: fault for fault in reversed(self.faults)}.values()
        others = [fault for fault in self.faults if fault not in firsts][: _MOST_SHOWN - len(firsts)]
        return [fault for fault in self.faults if fault in firsts or fault in others]


def printable(text: str) -> str:
    """Return text that is safe on a terminal: what a tampered file says could otherwise steer the screen it is shown on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

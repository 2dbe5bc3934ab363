"""What a node knows of the log of changes, and what it still has to do before it may say so.

    ask -> read -> apply (on the loop) -> whatever was under way then is answered -> renew the row -> the lease counts from `ask`

A loop that is stuck applies nothing, so nothing is renewed and the lease runs out.
"""

from __future__ import annotations

from typing import NamedTuple

from keyclave.store.interface import Names

EVERYTHING = ("", "everything:")
"""Changed, when it is not known what: rows are gone that this node has not read, or the database is an earlier one."""


class Question(NamedTuple):
    """What was read: the counter and the names changed since, and when (on the lease's clock) it was asked."""

    asked: float
    change: int
    names: Names


class Follower:
    """The follower's state: the last change applied here, and when the row was last renewed."""

    def __init__(self, applied: int, lease_seconds: float) -> None:
        self.applied = applied
        self._renew_after = lease_seconds / 8
        self._renewed = float("-inf")

    def read(self, asked: float, change: int, rows: list[tuple[int, Names]]) -> Question:
        """Take in the counter and the rows after `applied`, read in one snapshot."""
        if change < self.applied or [n for n, _ in rows] != list(range(self.applied + 1, change + 1)):
            return Question(asked, change, [EVERYTHING])
        return Question(asked, change, [name for _, names in rows for name in names])

    def must_renew(self, question: Question) -> bool:
        """Tell whether others wait to hear of it, or the lease should be prolonged."""
        return question.change != self.applied or question.asked - self._renewed >= self._renew_after

    def was_applied(self, question: Question) -> None:
        """The loop has dropped the names, and answered what was under way."""
        self.applied = question.change

    def was_renewed(self, question: Question) -> None:
        """The row is renewed on the strength of this question."""
        self._renewed = question.asked

"""The barrier: a change is answered when no other node can act on what was before it.

A node cannot any more when its row says that it has applied the change, when it has left, or when its row has not moved for
longer than it would trust its own lease. "Longer" is measured here, on this machine's own clock, from when the row was first seen
as it is: the database's clock would jump with a step of NTP, and with every failover to another machine.

Whatever the rows say, and even if nobody can read them, the waiting is over `PATIENCE` leases after the commit was known: a
lease that was asked for before the commit has run out by then, and one asked for later knows the change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from keyclave.operations.nodes.lease import PATIENCE


class Standing(NamedTuple):
    """What a node's row says: the last change it has applied, a number that moves with each renewal, whether it has left."""

    node: str
    applied: int
    seen_at: int
    left: bool


class Wait:
    """One change that waits to be answered. `change` is None until its number, or a later one, was read."""

    __slots__ = ("change", "release", "since")

    def __init__(self, since: float, release: Callable[[], None]) -> None:
        self.since = since
        self.change: int | None = None
        self.release = release


class Barrier:
    """What waits at one node, and what it has seen of the others. Not thread-safe: the barrier's thread alone uses it."""

    def __init__(self, me: str, lease_seconds: float) -> None:
        self._me = me
        self._patience = PATIENCE * lease_seconds
        self._rows: dict[str, tuple[Standing, float]] = {}
        self.waiting: list[Wait] = []

    def saw(self, rows: Iterable[Standing], now: float) -> None:
        """Take in the rows as they were read; `now` is when the answer was here, or later."""
        before, self._rows = self._rows, {}
        for row in rows:
            known = before.get(row.node)
            self._rows[row.node] = known if known is not None and known[0] == row else (row, now)

    def behind(self, change: int, now: float) -> list[str]:
        """Return the nodes that may still act on what was before `change`. Only rows read after its commit count."""
        return [
            node
            for node, (row, since) in self._rows.items()
            if node != self._me and not row.left and row.applied < change and now - since < self._patience
        ]

    def number(self, change: int) -> None:
        """The counter stood at `change` when asked after the commits of all that wait without a number."""
        for wait in self.waiting:
            if wait.change is None:
                wait.change = change

    def over(self, now: float, *, read: bool) -> list[Wait]:
        """Return what waits no longer, and forget it. `read` says that the rows at hand were read after the numbers."""
        done = [
            wait
            for wait in self.waiting
            if now - wait.since >= self._patience or (read and wait.change is not None and not self.behind(wait.change, now))
        ]
        if done:
            self.waiting = [wait for wait in self.waiting if wait not in done]
        return done

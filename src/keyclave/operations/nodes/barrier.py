"""The barrier: a change is answered when no other node can act on what was before it.

A node cannot any more when its row says that it has applied the change, when it has left, or when its row has not moved for
longer than it would trust its own lease. "Longer" is measured here, on this machine's own clock, from when the row was first seen
as it is: the database's clock would jump with a step of NTP, and with every failover to another machine.

A node that may decrypt for a while after its lease (spec/nodes.md, "While the database is away") is waited for that much longer,
where it matters to the change: a wait knows by its `reach`.

Whatever the rows say, and even if nobody can read them, the waiting is over `PATIENCE` leases (and reaches) after the commit was
known: a lease that was asked for before the commit has run out by then, and one asked for later knows the change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from keyclave.operations.nodes.lease import PATIENCE

FORSAKEN_SECONDS = 60.0


class Standing(NamedTuple):
    """What a node's row says: the last change it has applied, a number that moves with each renewal, whether it has left, and
    for how many seconds after its lease it may decrypt."""

    node: str
    applied: int
    seen_at: int
    left: bool
    stale: float = 0.0


class Wait:
    """One change that waits to be answered. `change` is None until its number, or a later one, was read. `reach`: for how many
    seconds after its lease some node may act on what was before it; 0 where that does not matter to the change."""

    __slots__ = ("change", "reach", "release", "since")

    def __init__(self, since: float, release: Callable[[], None], reach: float = 0.0) -> None:
        self.since = since
        self.reach = reach
        self.change: int | None = None
        self.release = release


class Barrier:
    """What waits at one node, and what it has seen of the others. Not thread-safe: the barrier's thread alone uses it."""

    def __init__(self, me: str, lease_seconds: float) -> None:
        self._me = me
        self._lease = lease_seconds
        self._rows: dict[str, tuple[Standing, float]] = {}
        self.waiting: list[Wait] = []

    def saw(self, rows: Iterable[Standing], now: float) -> None:
        """Take in the rows as they were read; `now` is when the answer was here, or later."""
        before, self._rows = self._rows, {}
        for row in rows:
            known = before.get(row.node)
            self._rows[row.node] = known if known is not None and known[0] == row else (row, now)

    def behind(self, change: int, began: float, *, stale: bool = False) -> list[str]:
        """Return the nodes that may still act on what was before `change`. Only rows read after its commit count.

        `began` is from before they were read: a row that stood still until then may have moved while the answer was on its way.
        `stale`: whether decrypting after the lease counts.
        """
        return [
            node
            for node, (row, since) in self._rows.items()
            if node != self._me
            and not row.left
            and row.applied < change
            and began - since < patience(self._lease, row.stale if stale else 0)
        ]

    def forsaken(self, began: float) -> list[Standing]:
        """Return the rows with stale use that have stood still for so long that their nodes can do nothing any more.

        Whoever starts later cannot know that, and would wait for them anew. `began` is from before the rows were read.
        """
        return [
            row
            for row, since in self._rows.values()
            if row.node != self._me
            and row.stale
            and not row.left
            and began - since >= max(FORSAKEN_SECONDS, patience(self._lease, row.stale))
        ]

    def number(self, change: int) -> None:
        """The counter stood at `change` when asked after the commits of all that wait without a number."""
        for wait in self.waiting:
            if wait.change is None:
                wait.change = change

    def over(self, began: float, *, read: bool) -> list[Wait]:
        """Return what waits no longer, and forget it. `read` says that the rows at hand were read after the numbers, and after
        `began`."""
        done = [
            wait
            for wait in self.waiting
            if began - wait.since >= patience(self._lease, wait.reach)
            or (read and wait.change is not None and not self.behind(wait.change, began, stale=wait.reach > 0))
        ]
        if done:
            self.waiting = [wait for wait in self.waiting if wait not in done]
        return done


def patience(lease: float, stale: float) -> float:
    """Return how long a node is waited for that trusts itself for `lease` seconds, and decrypts for `stale` seconds more."""
    return PATIENCE * (lease + stale)

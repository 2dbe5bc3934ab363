"""A node's place among the others, as the event loop sees it: may it use keys, what was under way, what waits for the barrier.

Everything here runs on the loop's thread, except `lease` and `fault`, which other threads set and the loop reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.errors import Unavailable
from keyclave.operations.nodes.follower import Question
from keyclave.operations.nodes.lease import Lease
from keyclave.store.interface import Names
from keyclave.store.nodes import read_news

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt


class Membership:
    """What the desk asks before it acts for anybody, and again before it answers."""

    def __init__(self, node: str, lease: Lease, hold: Callable[[Callable[[], None], float], None]) -> None:
        self.node = node
        self.lease = lease
        self.fault = ""  # why this node refuses, besides its lease: its clock is wrong
        self.epoch = 0  # grows each time something that others changed is applied
        self.joined = False  # whether anything was
        self.change = 0  # the last change that was applied
        self._hold = hold
        self._under_way: dict[int, int] = {}
        self._then: list[tuple[int, Callable[[], None]]] = []

    # ---- may it? ------------------------------------------------------------------------------------------------------
    def check(self) -> None:
        """Refuse while this node may not rest on what it holds in memory."""
        if self.fault:
            raise Unavailable(self.fault, "ask another node; an operator sets this machine's clock right")
        if not self.lease.live:
            raise behind()

    # ---- what is under way --------------------------------------------------------------------------------------------
    def begun(self) -> int:
        """Something was handed to the store; return the epoch to give back to `ended`."""
        self._under_way[self.epoch] = self._under_way.get(self.epoch, 0) + 1
        return self.epoch

    def ended(self, epoch: int) -> None:
        """It is about to be answered."""
        left = self._under_way[epoch] - 1
        if left:
            self._under_way[epoch] = left
            return
        del self._under_way[epoch]
        if self._then:
            self._look()

    def applied(self, question: Question, then: Callable[[], None]) -> None:
        """What others changed was dropped from memory: call `then` when no answer under way rests on it."""
        self.change, self.joined = question.change, True
        if question.names:
            self.epoch += 1
        self._then.append((self.epoch, then))
        self._look()

    def _look(self) -> None:
        oldest = min(self._under_way, default=self.epoch)
        ready = [then for epoch, then in self._then if epoch <= oldest]
        if ready:
            self._then = [(epoch, then) for epoch, then in self._then if epoch > oldest]
            for then in ready:
                then()

    def changed_since(self, conn: Connection, change: int) -> Names:
        """Return, inside a transaction that holds the counter's lock, what others have changed since number `change`."""
        return [name for _, names in read_news(conn, change, self.node)[1] for name in names]

    # ---- the barrier --------------------------------------------------------------------------------------------------
    def hold(self, release: Callable[[], None], reach: float) -> None:
        """A change is durable: call `release`, on the loop, when no other node can act on what was before it.

        `reach`: for how many seconds after their leases others may do so, as the change's own transaction saw it.
        """
        self._hold(release, reach)

    # ---- the answer ---------------------------------------------------------------------------------------------------
    def answer(self, attempt: Attempt) -> None:
        """Answer a use only while this node's lease holds, and a change when no other node can act on what was before it."""
        op = attempt.row
        try:
            if op is None or attempt.error is not None or attempt.dry_run:
                attempt.reply(attempt)
            elif op.changes:
                self.hold(lambda: attempt.reply(attempt), attempt.reach)
            else:
                if not self.lease.live:
                    attempt.answer, attempt.error = None, behind()
                attempt.reply(attempt)
        finally:
            if attempt.epoch >= 0:
                self.ended(attempt.epoch)


def behind() -> Unavailable:
    """Return the refusal of a node that may not know what others have revoked."""
    return Unavailable(
        "this node has not heard from the database for longer than its lease, and may not know what was revoked",
        "ask another node, or try again in a moment",
    )

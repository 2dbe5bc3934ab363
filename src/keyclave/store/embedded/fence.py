"""The fence between processes that write to one file: nobody keeps what rests on something that another one has changed.

Each group first meets the others inside its own transaction. What they have changed since is dropped from memory, and a unit that
rests on it is left out, to begin again from its beginning. So no use is ever kept after a revocation that it did not see.
"""

from __future__ import annotations

from collections.abc import Callable

from keyclave.store.changes import keep_changes, last_change, read_changes
from keyclave.store.embedded.line import Line
from keyclave.store.interface import Names, Unit

_LAST_CHANGE = "SELECT n FROM change_counter"


class Fence:
    """`apply` is told what others have changed, before anything rests on it."""

    def __init__(self, line: Line, node: str) -> None:
        self._line = line
        self._node = node
        self._applied = last_change(line.conn)  # the last change that was applied here
        self._left_out: list[Unit] = []  # units to begin again once the group at hand is decided
        self.apply: Callable[[Names], None] = lambda names: None

    def meet(self, group: list[Unit], queue: list[Unit]) -> tuple[list[Unit], list[Unit]]:
        """Apply what others have changed; return what is left of the group and of the queue behind it."""
        if self._line.raw.execute(_LAST_CHANGE).fetchone()[0] == self._applied:
            return group, queue
        n, names = read_changes(self._line.conn, self._applied)
        if names:
            self.apply(names)
            group, queue = self._leave_out(group, names), self._leave_out(queue, names)
        self._applied = n
        return group, queue

    def _leave_out(self, units: list[Unit], names: Names) -> list[Unit]:
        asked = [(unit, unit.void(names)) for unit in units]
        self._left_out += [unit for unit, void in asked if void]
        return [unit for unit, void in asked if not void]

    def begin_again(self) -> bool:
        """Have those that were left out begin again; tell whether there were any."""
        left_out, self._left_out = self._left_out, []
        for unit in left_out:
            unit.again()
        return bool(left_out)

    def tell(self, group: list[Unit]) -> int:
        """Keep, in the same transaction, what the group changed: the others meet it in theirs. Return its number, or 0."""
        names = [name for unit in group for name in unit.touched()]
        return keep_changes(self._line.conn, self._node, names) if names else 0

    def told(self, change: int) -> None:
        """What was told under that number is durable. Our own changes are no news to us."""
        self._applied = change or self._applied

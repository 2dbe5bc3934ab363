"""Whether the database is away: somebody asked it, anew and awake, and got no answer.

A lease also runs out because this process, its machine or its event loop stood still. That says nothing of the database, and a
node that stood still may have missed more than any other. So what counts is a question that got no answer while this process was
awake; a thread that does little else notes that it is.
"""

from __future__ import annotations

from collections.abc import Callable

from keyclave.operations.nodes.lease import steady

OVERDUE = 0.7  # seconds without an answer
ASLEEP = 1.0  # seconds without a tick: the process stood still


class Contact:
    """Written by the follower's thread, which asks, and by the one that ticks; read by the event loop."""

    def __init__(self, clock: Callable[[], float] = steady) -> None:
        self._clock = clock
        self._asked: float | None = None
        self._lost = False
        self._ticked = self._woke = clock()

    # ---- the thread that ticks --------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """This process is awake."""
        now = self._clock()
        if now - self._ticked > ASLEEP:
            self._woke = now
        self._ticked = now

    # ---- the follower -----------------------------------------------------------------------------------------------------
    def asking(self) -> None:
        """A question is sent, or a connection begun."""
        self._asked = self._clock()

    def answered(self) -> None:
        """The answer is here. If it was overdue the database counts as away until the lease holds again."""
        if self._overdue():
            self._lost = True
        self._asked = None

    def failed(self) -> None:
        """There will be no answer. One that was asked before this process stood still says nothing."""
        asked, self._asked = self._asked, None
        if asked is not None and asked >= self._woke and self._awake():
            self._lost = True

    def held(self) -> None:
        """The lease holds again."""
        self._lost = False

    # ---- the event loop ---------------------------------------------------------------------------------------------------
    @property
    def away(self) -> bool:
        """Tell whether the database is away."""
        return self._lost or self._overdue()

    def _awake(self) -> bool:
        return self._clock() - self._ticked < ASLEEP

    def _overdue(self) -> bool:
        asked = self._asked
        return asked is not None and self._awake() and self._clock() - max(asked, self._woke) > OVERDUE

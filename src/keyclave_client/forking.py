"""What a forked process may not share with the one it came from: connections, data keys, and locks of threads that it lacks.

Two processes that read from one connection get each other's answers: the data key of one patient's context, say, in the place of
that for another's. Servers that fork their workers after they made a client do just that. So in the child every client begins
anew, at once, whoever made it.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """Holds what is one process's own."""

    def forget(self) -> None:
        """Begin anew. Waits for no lock: whoever had it is not in this process."""
        ...


_HERE: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def forget_in_children(one: Forgetful) -> None:
    """From now on have `one` forget in every process that is forked from this one."""
    _HERE.add(one)


def _forget() -> None:
    for one in list(_HERE):
        one.forget()


if hasattr(os, "register_at_fork"):  # where processes can be forked at all
    os.register_at_fork(after_in_child=_forget)

"""Acting on what is in memory alone: inside `memory_only` this thread asks the database nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from keyclave.core.errors import Unavailable

_here = threading.local()


@contextmanager
def memory_only() -> Iterator[None]:
    """Have every look-up of this thread refused meanwhile."""
    _here.only = True
    try:
        yield
    finally:
        _here.only = False


def check_look_up() -> None:
    """Refuse to look up anything within `memory_only`."""
    if getattr(_here, "only", False):
        raise Unavailable(
            "the database does not answer, and this node does not know enough: nothing was done", "repeat it in a moment"
        )

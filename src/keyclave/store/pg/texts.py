"""Text that PostgreSQL cannot hold: with a NUL in it. Nothing of the kind is ever kept; looked for, it is simply not there.

SQLite looks for such a text and finds nothing. So that unknown is answered alike on both engines, a read that meets one is made
again with the NUL replaced by a character that no name has; a change that meets one is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.types.string import StrDumper

_here = threading.local()
_NO_NAME_HAS = "\ufffd"


class _Text(StrDumper):
    """Text as parameters are sent."""

    def dump(self, obj: Any) -> Any:
        """Return the bytes to send."""
        return super().dump(obj.replace("\0", _NO_NAME_HAS) if getattr(_here, "looking", False) else obj)


def prepare(conn: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Let a connection send text so."""
    conn.adapters.register_dumper(str, _Text)
    return conn


@contextmanager
def only_looking() -> Iterator[None]:
    """What this thread sends meanwhile is only looked for."""
    _here.looking = True
    try:
        yield
    finally:
        _here.looking = False

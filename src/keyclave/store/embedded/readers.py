"""The reading side: a few connections that cannot write, each lent for one snapshot."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine

from keyclave.store.embedded.file import DATABASE_FAULTS, unavailable

T = TypeVar("T")

READERS = 4
CACHE_KIB = 8192  # of each: the upper levels of the indexes of a million keys; with half of it a page of a list takes longer


class Readers:
    """Lent to any thread; whoever comes when all are lent waits."""

    def __init__(self, engine: Engine) -> None:
        self.all = [_open(engine) for _ in range(READERS)]
        self._free: queue.LifoQueue[Connection] = queue.LifoQueue()
        for reader in self.all:
            self._free.put(reader)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Lend a connection inside one snapshot."""
        conn = self._free.get()
        try:
            conn.exec_driver_sql("BEGIN")
            try:
                yield conn
            finally:
                conn.exec_driver_sql("ROLLBACK")
        except DATABASE_FAULTS as fault:
            raise unavailable(fault) from fault
        finally:
            self._free.put(conn)

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on a snapshot."""
        with self.reading() as conn:
            return fn(conn)

    def close(self) -> None:
        """Close every connection."""
        for reader in self.all:
            reader.close()


def _open(engine: Engine) -> Connection:
    conn = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    conn.exec_driver_sql("PRAGMA query_only = ON")
    conn.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIB}")
    return conn

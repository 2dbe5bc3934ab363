"""Transactions of any thread: snapshots to read from, and short writes that leave no event.

A transaction is believed to have committed only without a warning: one that the server reports with a warning did not wait for
its standby (somebody cancelled the wait), and is told as unknown.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DataError

from keyclave.core.errors import Unavailable
from keyclave.store.pg import deadlines, faults, texts
from keyclave.store.pg.connections import Connections, driver_of

T = TypeVar("T")

logger = logging.getLogger("keyclave.store")

TRIES = 20  # of a transaction that stands in another one's way
HASTY = 3  # of them without waiting for those that change something
BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
BEGIN_WRITE = "BEGIN ISOLATION LEVEL SERIALIZABLE"
# LOCK takes no snapshot, so that of the transaction is taken once nobody else changes anything.
BEGIN_CHANGE = "BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE change_counter IN SHARE ROW EXCLUSIVE MODE"


class Transactions:
    """See the module. What the database meets comes out as `Unavailable`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on a snapshot."""
        try:
            return self._lent(lambda conn: _inside(conn, BEGIN_READ, fn))
        except Unavailable as fault:
            if not isinstance(fault.__cause__, DataError):
                raise
        with texts.only_looking():
            return self._lent(lambda conn: _inside(conn, BEGIN_READ, fn))

    def single(self, fn: Callable[[Connection], T]) -> T:
        """Run one statement, which is a snapshot by itself."""
        return self._lent(fn)

    def _lent(self, fn: Callable[[Connection], T]) -> T:
        try:
            with self._connections.lend(deadlines.READ_SECONDS) as conn:
                return fn(conn)
        except faults.FAULTS as fault:
            raise faults.unavailable(fault) from fault

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a transaction of its own. It may be run more than once."""
        for number, pause in enumerate(pauses()):
            begin = BEGIN_WRITE if number < HASTY else BEGIN_CHANGE  # who lost several times takes its turn
            try:
                with self._connections.lend(deadlines.WRITE_SECONDS) as conn:
                    return _inside(conn, begin, fn)
            except faults.FAULTS as fault:
                if pause is None or not faults.worth_another_try(fault):
                    raise faults.unavailable(fault) from fault
                time.sleep(pause)
        raise AssertionError


def _inside(conn: Connection, begin: str, fn: Callable[[Connection], T]) -> T:
    driver = driver_of(conn)
    driver.execute(begin)
    result = fn(conn)
    durably(driver, "COMMIT", None)
    return result


def durably(driver: psycopg.Connection[Any], statement: str, parameters: Sequence[object] | None) -> None:
    """Do what commits, and believe it only without a warning."""
    warnings: list[psycopg.errors.Diagnostic] = []
    driver.add_notice_handler(warnings.append)
    try:
        driver.execute(statement, parameters)
    finally:
        driver.remove_notice_handler(warnings.append)
    if warnings:
        logger.error("the database committed with a warning: %s", warnings[0].message_primary)
        raise faults.unavailable()


def pauses() -> list[float | None]:
    """Return how long to wait after each try: random and growing, and None after the last one."""
    growing: list[float | None] = [random.uniform(0, min(0.1, 0.001 * 2**number)) for number in range(TRIES - 1)]  # noqa: S311
    return [*growing, None]

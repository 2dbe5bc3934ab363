"""Whether a commit happened whose connection was lost meanwhile.

The journal says so: its row (node, first) is there with the same bytes, or not. What is not there is told as unknown, and a late
arrival of it is met by the next row of the same number, which the schema refuses: the numbers are then read again. No event is
ever kept twice or under two numbers.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg

from keyclave.core.errors import Unavailable
from keyclave.store.pg import deadlines, faults
from keyclave.store.pg.connections import driver_of
from keyclave.store.pg.transactions import Transactions, durably

_ROW = "SELECT entries FROM journal WHERE node = %s AND first = %s"
_CONFIRM = "SELECT pg_logical_emit_message(true, 'keyclave', 'found')"  # the least that is a commit, and waits as one


class UnknownOutcome(Exception):
    """The connection was lost while a group was made durable: this was to be its row."""

    def __init__(self, node: str, first: int, packed: bytes, count: int) -> None:
        super().__init__(f"events {first} to {first + count - 1}")
        self.node, self.first, self.packed, self.count = node, first, packed, count


def resolve(transactions: Transactions, open_end: UnknownOutcome) -> None:
    """Return if it happened; else, or where nobody can say in time, raise `Unavailable`."""
    deadline = time.monotonic() + deadlines.RESOLVE_SECONDS
    while time.monotonic() < deadline:
        try:
            row = transactions.single(lambda conn: _find_row(driver_of(conn), open_end))
        except Unavailable:
            time.sleep(0.05)  # between two looks: the keeper connects meanwhile
            continue
        if row is not None and bytes(row[0]) == open_end.packed:
            return
        break
    raise faults.unavailable()


def _find_row(driver: psycopg.Connection[Any], open_end: UnknownOutcome) -> Any:
    """Return a row of this node's journal once it is as durable as an answered one.

    A server that crashed while a commit waited for its standby shows the row when it is up again, though no standby has it. A
    commit after it waits until the standby has everything up to itself, and so that row, too.
    """
    row = driver.execute(_ROW, (open_end.node, open_end.first)).fetchone()
    if row is not None:
        durably(driver, _CONFIRM, None)
    return row


def took_our_number(fault: BaseException) -> bool:
    """Tell whether a row of ours arrived late that was told as unknown: the numbers go on after it."""
    return faults.state_of(fault).startswith("23") and "journal" in str(fault)

"""One unit of a group, kept or undone by itself: a refusal takes nothing along but its own change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from sqlalchemy import Connection

from keyclave.core.errors import Broken, Conflict, KeyclaveError
from keyclave.store.interface import Unit

logger = logging.getLogger("keyclave.store")


def keep_unit(
    execute: Callable[[str], object],
    transaction: Connection,
    unit: Unit,
    first: int,
    refusal_of: Callable[[Exception], KeyclaveError | None],
) -> list[bytes]:
    """Make a unit's change inside a savepoint; return its events, or, where it was refused, those that say so.

    `execute` runs a statement on the driver's connection. `refusal_of` says what a fault of the database means for this unit, or
    nothing if it is no such fault; it raises the fault where the whole transaction is in doubt (disk full, connection lost).
    """
    execute("SAVEPOINT unit")
    try:
        leaves = unit.change(transaction, first)
    except Exception as fault:
        refusal = fault if isinstance(fault, KeyclaveError) else refusal_of(fault)
        if refusal is None:
            logger.exception("a change failed")
            refusal = Broken("the change failed and was undone", "see the server's log")
        execute("ROLLBACK TO unit")
        leaves = unit.refused(refusal, first)
    execute("RELEASE unit")
    if len(leaves) != unit.events:
        raise Broken("a unit left another number of events than it said")
    return leaves


def broken_rule() -> Conflict:
    """Return what a unit is refused with whose change breaks a rule of the schema."""
    return Conflict("the change breaks a rule of the store", "read again and repeat")


def draft(units: Iterable[Unit]) -> None:
    """Have answers written; one that cannot be is none that is lost: it is tried again when it is given."""
    for unit in units:
        try:
            unit.draft()
        except Exception:
            logger.exception("an answer could not be written")


def tell(units: Iterable[Unit], failure: Exception | None) -> None:
    """Tell callers, in order; one whose connection is in ruins must not keep the others from their answers."""
    for unit in units:
        try:
            unit.done(failure)
        except Exception:
            logger.exception("an answer could not be given")

"""From a spool into the journal: in order, under the spool's own name, and once, however often it is tried.

The number of each event was fixed when it was written, so a record that is in the journal already has the same primary key. It is
compared, and left. The schema refuses gaps, so a record whose predecessor did not arrive does not arrive either.
"""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from sqlalchemy import Connection, update

from keyclave.core.errors import Broken
from keyclave.store import node_tables as t
from keyclave.store.pg.connections import driver_of
from keyclave.store.spool.file import Record

AT_ONCE = 1 << 20  # bytes of one transaction, unless a single record has more
_KEPT = "SELECT entries FROM journal WHERE node = %s AND first = %s"
_INSERT = "INSERT INTO journal (node, first, count, entries) VALUES (%s, %s, %s, %b)"
_COMMIT_TELLS = "SELECT pg_logical_emit_message(true, 'keyclave', 'spool')"  # so that it is a commit, and waits for standbys


def place(conn: Connection, node: str, journal: str, records: Iterable[Record]) -> int:
    """Put a spool's records into the journal; return how many events were new there. `node` is whose row tells of it.

    When it returns all of them are as durable as an answered event. It may be broken off anywhere, and begun again.
    """
    new = 0
    waiting: list[Record] = []
    for record in records:
        if waiting and sum(len(one.packed) for one in waiting) + len(record.packed) > AT_ONCE:
            new += _keep(conn, node, journal, waiting)
            waiting = []
        waiting.append(record)
    return new + _keep(conn, node, journal, waiting)


def _keep(conn: Connection, node: str, journal: str, records: list[Record]) -> int:
    if not records:
        return 0
    driver = driver_of(conn)
    warned: list[psycopg.errors.Diagnostic] = []
    driver.execute("BEGIN")
    driver.add_notice_handler(warned.append)
    try:
        new = sum(_put(driver, journal, record) for record in records)
        conn.execute(update(t.nodes).where(t.nodes.c.id == node).values(spool=journal))
        driver.execute(_COMMIT_TELLS)
        driver.execute("COMMIT")
    except BaseException:
        if not driver.closed:
            driver.execute("ROLLBACK")
        raise
    finally:
        driver.remove_notice_handler(warned.append)
    if warned:  # committed here only: the file stays, and the next try waits for the standbys
        raise psycopg.OperationalError(f"a spool was not replicated: {warned[0].message_primary}")
    return new


def _put(driver: psycopg.Connection[object], journal: str, record: Record) -> int:
    row = driver.execute(_KEPT, (journal, record.first)).fetchone()
    if row is None:
        driver.execute(_INSERT, (journal, record.first, record.events, record.packed))
        return record.events
    if bytes(row[0]) != record.packed:  # type: ignore[index]
        raise Broken(
            f"the journal {journal} holds something else at {record.first} than its spool",
            "keep both as evidence: see spec/spool.md",
        )
    return 0

"""The tables by which several writers of one store know of each other: journals, the log of changes, nodes and leases.

A node of PostgreSQL keeps its events in its own `journal` and one elected node gives them their places in `segments`. Processes
on one SQLite file take turns and place theirs themselves, so their journals stay empty.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from keyclave.store.columns import Serial, metadata

NODE = String(16)

journal = Table(
    "journal",
    metadata,
    Column("node", NODE, nullable=False),
    Column("first", BigInteger, nullable=False),  # numbered by the node itself, from 0 and without gaps
    Column("count", Integer, nullable=False),
    Column("entries", LargeBinary, nullable=False),  # each entry behind its uint16 length
    PrimaryKeyConstraint("node", "first"),
    CheckConstraint("count >= 1", name="count"),
    CheckConstraint("first >= 0", name="first"),
)

change_counter = Table(
    "change_counter",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("n", BigInteger, nullable=False),  # a row, not a sequence: its lock makes the order of changes that of their commits
    CheckConstraint("id = 1", name="one_row"),
)

changes = Table(
    "changes",
    metadata,
    Column("n", Serial, primary_key=True),
    Column("node", NODE, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("names", Text, nullable=False),  # JSON: [[tenant, name], …], whose copies in memory are void
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", NODE, primary_key=True),  # one for each start of a process: never used again
    Column("address", String(256), nullable=False),
    Column("version", String(32), nullable=False),
    Column("schema", String(16), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("applied", BigInteger, nullable=False),  # the last change it has applied
    Column("lease_until", BigInteger, nullable=False),  # by the database's clock
    Column("skew", BigInteger, nullable=False),  # its clock before the database's, microseconds
    Column("sealed", Boolean, nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("left_at", BigInteger),
    Column("stale", BigInteger, nullable=False, server_default="0"),  # microseconds that it may decrypt for after its lease
    Column("spool", NODE),  # the journal that its newest spool was placed in
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("holder", NODE, nullable=False),
    Column("fence", BigInteger, nullable=False),  # grows with each holder: whoever comes late with an older one is refused
    Column("until", BigInteger, nullable=False),  # by the database's clock
)

APPEND_ONLY = ("journal",)
UNDYING = ("change_counter",)


def sqlite_guards() -> list[str]:
    """Return the trigger that lets no journal have a gap, for SQLite."""
    return [
        "CREATE TRIGGER journal_no_gap BEFORE INSERT ON journal "
        "WHEN NEW.first <> coalesce((SELECT first + count FROM journal WHERE node = NEW.node ORDER BY first DESC LIMIT 1), 0) "
        "BEGIN SELECT RAISE(ABORT, 'a journal leaves no gap'); END"
    ]

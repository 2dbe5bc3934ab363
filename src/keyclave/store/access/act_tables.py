"""The table of acts: who did what on which thing, as separation of duties asks for it. Rows are only ever added."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table

from keyclave.store.columns import Serial, metadata, principal_name

acts = Table(
    "acts",
    metadata,
    Column("number", Serial, primary_key=True),  # the order in which they were done
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject", principal_name(300), nullable=False),
    Column("action", String(40), nullable=False),
    Column("principal", principal_name(256), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("event", String(64)),  # of the log; null for what was done before acts were kept
    Index("ix_acts_subject", "tenant", "kind", "subject"),
)

APPEND_ONLY: tuple[str, ...] = ("acts",)
UNDYING: tuple[str, ...] = ()

"""The table of share holders: who keeps which share of the root's recovery key, and since when. Rows are only ever added."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table

from keyclave.store.columns import Serial, metadata, principal_name

share_holders = Table(
    "share_holders",
    metadata,
    Column("number", Serial, primary_key=True),  # the order of naming: the last one holds the share
    Column("set_id", String(8), nullable=False),  # of the ceremony, in hexadecimal
    Column("share", Integer, nullable=False),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("principal", principal_name(128), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("named_by", principal_name(128), nullable=False),
    Column("approval", String(40)),
    Column("event", String(64), nullable=False),  # of the log
    CheckConstraint("share BETWEEN 1 AND 16", name="share"),
    CheckConstraint("length(principal) > 0", name="somebody"),
    Index("ix_share_holders_share", "set_id", "share"),
    Index("ix_share_holders_principal", "tenant", "principal"),
)

APPEND_ONLY: tuple[str, ...] = ("share_holders",)
UNDYING: tuple[str, ...] = ()

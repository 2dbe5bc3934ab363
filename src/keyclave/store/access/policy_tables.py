"""Tables of policy revisions: what a tenant's policy was, from when, by whose decision."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from keyclave.store.columns import metadata, principal_name

policy_revisions = Table(
    "policy_revisions",
    metadata,
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("files", Text, nullable=False),  # JSON: file name to text
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the canonical bundle
    Column("applied_at", BigInteger, nullable=False),
    Column("applied_by", principal_name(128), nullable=False),
    Column("approval", String(40), nullable=False),  # empty for the first one, which the ceremony made
    PrimaryKeyConstraint("tenant", "number"),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint("length(digest) = 32", name="digest"),
)

APPEND_ONLY: tuple[str, ...] = ("policy_revisions",)
UNDYING: tuple[str, ...] = ()

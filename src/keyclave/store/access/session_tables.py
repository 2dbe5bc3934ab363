"""Tables of sessions, which are never deleted, and of ceremonies that were finished, which are when nobody can use them again."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from keyclave.store.columns import metadata, principal_name

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), nullable=False),
    Column("principal", principal_name(128), nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),  # of the current token: each step-up makes a new one
    Column("aal", Integer, nullable=False),
    Column("how", String(32), nullable=False),
    Column("authenticator", String(40), nullable=False),  # empty where another house vouches (single sign-on)
    Column("enrolling", Boolean, nullable=False),  # good for nothing but enrolling an authenticator
    Column("invitation", String(40), nullable=False),  # the invitation it came from, or empty
    Column("source", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("idle_seconds", Integer, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("stepped_up_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    ForeignKeyConstraint(["tenant", "principal"], ["principals.tenant", "principals.name"]),
    CheckConstraint("aal BETWEEN 1 AND 3", name="aal"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("idle_seconds > 0 AND expires_at > created_at", name="ends"),
    CheckConstraint("NOT enrolling OR aal = 1", name="enrolling_is_little"),
    Index("ix_sessions_principal", "tenant", "principal"),
)

ceremonies = Table(
    "ceremonies",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("tenant", String(40), nullable=False),
    Column("payload", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    CheckConstraint("length(digest) = 32", name="digest"),
    Index("ix_ceremonies_expires_at", "expires_at"),
)

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ("sessions",)

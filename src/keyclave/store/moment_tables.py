"""The table of moments: what is begun by one request and ended by another, perhaps at another node. Rows live for minutes.

A row holds digests and what anybody may know, or what is sealed under a tenant's key. It goes when it is used; what nobody uses
goes by the clock.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from keyclave.store.columns import metadata, one_of

KINDS = ("claim", "device", "failure", "import")

moments = Table(
    "moments",
    metadata,
    Column("kind", String(16), nullable=False),
    Column("name", LargeBinary, nullable=False),  # SHA-256 or HMAC-SHA-256 of what whoever comes back shows
    Column("code", LargeBinary),  # likewise, of a second name
    Column("owner", String(64), nullable=False),  # whose bound it counts against: a tenant, or a network
    Column("count", Integer, nullable=False),
    Column("held", LargeBinary, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
    UniqueConstraint("kind", "code"),
    CheckConstraint(one_of("kind", KINDS), name="kind"),
    CheckConstraint("length(name) = 32", name="name"),
    CheckConstraint("code IS NULL OR length(code) = 32", name="code"),
    CheckConstraint("length(held) <= 16384", name="held"),
    CheckConstraint("expires_at > made_at", name="ends"),
    Index("ix_moments_owner", "kind", "owner"),
    Index("ix_moments_expires_at", "expires_at"),
)

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ()

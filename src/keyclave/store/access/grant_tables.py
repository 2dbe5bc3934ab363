"""Tables of grants, elevations and their reviews."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from keyclave.store.columns import metadata, one_of, only_where, principal_name

grants = Table(
    "grants",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("grantee", principal_name(256), nullable=False),
    Column("operations", Text, nullable=False),
    Column("keys", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("exact", Boolean, nullable=False),
    Column("purposes", Text, nullable=False),
    Column("networks", Text, nullable=False),
    Column("delegate", Boolean, nullable=False),
    Column("parent", String(40), ForeignKey("grants.id"), nullable=True),
    Column("depth", Integer, nullable=False),
    Column("uses", BigInteger, nullable=True),
    Column("remaining", BigInteger, nullable=True),
    Column("counted", Boolean, nullable=False),  # its own uses, or those of a grant above it
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", principal_name(256), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("end", String(8), nullable=True),
    Column("ended_at", BigInteger, nullable=True),
    Column("ended_by", principal_name(256), nullable=True),
    CheckConstraint("depth >= 1", name="depth"),
    CheckConstraint("(uses IS NULL) = (remaining IS NULL)", name="counted_from_the_start"),
    CheckConstraint("remaining >= 0 AND remaining <= uses", name="never_below_nothing"),
    CheckConstraint("uses IS NULL OR counted", name="counted"),
    CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="ended_by_somebody"),
    CheckConstraint('(ended_at IS NULL) = ("end" IS NULL)', name="ended_somehow"),
    CheckConstraint(f'"end" IS NULL OR {one_of(chr(34) + "end" + chr(34), ["retired", "revoked"])}', name="end"),
    Index("ix_grants_grantee", "tenant", "grantee", **only_where("ended_at IS NULL")),
    Index("ix_grants_parent", "parent"),
)

eligibilities = Table(
    "eligibilities",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("principal", principal_name(256), nullable=True),  # not of break-glass: who may break it is not for every reader
    Column("tag", LargeBinary, nullable=True),  # keyed hash of the principal, and
    Column("sealed", LargeBinary, nullable=True),  # the whole of it, under the tenant's key
    Column("role", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", principal_name(256), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, nullable=True),
    Column("revoked_by", principal_name(256), nullable=True),
    CheckConstraint("(role = 'break-glass') = (principal IS NULL)", name="named_or_sealed"),
    CheckConstraint("(principal IS NULL) = (sealed IS NOT NULL)", name="sealed_when_not_named"),
    CheckConstraint("(tag IS NULL) = (sealed IS NULL)", name="tagged_when_sealed"),
    CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked_by_somebody"),
    Index("ix_eligibilities_principal", "tenant", "principal"),
    Index("ix_eligibilities_tag", "tenant", "tag"),
)

elevations = Table(
    "elevations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("principal", principal_name(256), nullable=False),
    Column("credential", String(40), nullable=False),  # the session or bearer credential it is bound to
    Column("role", String(64), nullable=False),
    Column("duty", String(16), nullable=False),
    Column("eligibility", String(40), ForeignKey("eligibilities.id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("reach", Text, nullable=False),  # break-glass: keys, operations, and keyed hashes of the reference by context name
    Column("started_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=True),
    Column("ended_by", principal_name(256), nullable=True),
    Column("review_due_at", BigInteger, nullable=True),
    Column("alarmed_at", BigInteger, nullable=True),  # when people were last alarmed of it
    Column("reviewed_at", BigInteger, nullable=True),
    Column("reviewed_by", principal_name(256), nullable=True),
    Column("verdict", String(16), nullable=True),
    Column("notes", Text, nullable=True),
    CheckConstraint("ends_at > started_at", name="ends"),
    CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="ended_by_somebody"),
    CheckConstraint("(role = 'break-glass') = (review_due_at IS NOT NULL)", name="break_glass_is_reviewed"),
    CheckConstraint("(reviewed_at IS NULL) = (reviewed_by IS NULL)", name="reviewed_by_somebody"),
    CheckConstraint("(reviewed_at IS NULL) = (verdict IS NULL)", name="reviewed_with_a_verdict"),
    CheckConstraint("reviewed_by IS NULL OR reviewed_by <> principal", name="reviewed_by_another"),
    CheckConstraint(f"verdict IS NULL OR {one_of('verdict', ['justified', 'unjustified'])}", name="verdict"),
    Index("one_elevation_of_a_credential", "credential", unique=True, **only_where("ended_at IS NULL")),
    Index(
        "one_break_glass_until_reviewed", "tenant", "principal", unique=True,
        **only_where("role = 'break-glass' AND reviewed_at IS NULL"),
    ),
    Index("ix_elevations_ends_at", "ends_at", **only_where("ended_at IS NULL")),
    Index("ix_elevations_review_due_at", "review_due_at", **only_where("review_due_at IS NOT NULL AND reviewed_at IS NULL")),
)  # fmt: skip

alarms = Table(
    "alarms",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("recipient", principal_name(256), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("elevation", String(40), ForeignKey("elevations.id"), nullable=False),
    Column("raised_at", BigInteger, nullable=False),
    Column("acknowledged_at", BigInteger, nullable=True),
    CheckConstraint(one_of("kind", ["break-glass", "review-overdue"]), name="kind"),
    Index(
        "ix_alarms_recipient",
        "tenant",
        "recipient",
        **only_where("acknowledged_at IS NULL"),
    ),
)

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ("grants", "eligibilities", "elevations", "alarms")

"""grants, elevations and their reviews"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import only_where, principal_name

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_UNDYING = ("grants", "eligibilities", "elevations", "alarms")


def upgrade() -> None:
    op.create_table(
        "eligibilities",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(256), nullable=True),
        sa.Column("tag", sa.LargeBinary(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", principal_name(256), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by", principal_name(256), nullable=True),
        sa.CheckConstraint("(role = 'break-glass') = (principal IS NULL)", name=op.f("ck_eligibilities_named_or_sealed")),
        sa.CheckConstraint("(principal IS NULL) = (sealed IS NOT NULL)", name=op.f("ck_eligibilities_sealed_when_not_named")),
        sa.CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name=op.f("ck_eligibilities_revoked_by_somebody")),
        sa.CheckConstraint("(tag IS NULL) = (sealed IS NULL)", name=op.f("ck_eligibilities_tagged_when_sealed")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_eligibilities_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_eligibilities")),
    )
    op.create_index("ix_eligibilities_principal", "eligibilities", ["tenant", "principal"], unique=False)
    op.create_index("ix_eligibilities_tag", "eligibilities", ["tenant", "tag"], unique=False)
    op.create_table(
        "grants",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("grantee", principal_name(256), nullable=False),
        sa.Column("operations", sa.Text(), nullable=False),
        sa.Column("keys", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("delegate", sa.Boolean(), nullable=False),
        sa.Column("parent", sa.String(length=40), nullable=True),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=True),
        sa.Column("remaining", sa.BigInteger(), nullable=True),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", principal_name(256), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.String(length=8), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", principal_name(256), nullable=True),
        sa.CheckConstraint("\"end\" IS NULL OR \"end\" IN ('retired', 'revoked')", name=op.f("ck_grants_end")),
        sa.CheckConstraint('(ended_at IS NULL) = ("end" IS NULL)', name=op.f("ck_grants_ended_somehow")),
        sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name=op.f("ck_grants_ended_by_somebody")),
        sa.CheckConstraint("(uses IS NULL) = (remaining IS NULL)", name=op.f("ck_grants_counted_from_the_start")),
        sa.CheckConstraint("depth >= 1", name=op.f("ck_grants_depth")),
        sa.CheckConstraint("remaining >= 0 AND remaining <= uses", name=op.f("ck_grants_never_below_nothing")),
        sa.CheckConstraint("uses IS NULL OR counted", name=op.f("ck_grants_counted")),
        sa.ForeignKeyConstraint(["parent"], ["grants.id"], name=op.f("fk_grants_parent")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_grants_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    op.create_index(
        "ix_grants_grantee",
        "grants",
        ["tenant", "grantee"],
        unique=False,
        **only_where("ended_at IS NULL"),
    )
    op.create_index("ix_grants_parent", "grants", ["parent"], unique=False)
    op.create_table(
        "elevations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(256), nullable=False),
        sa.Column("credential", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("duty", sa.String(length=16), nullable=False),
        sa.Column("eligibility", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reach", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", principal_name(256), nullable=True),
        sa.Column("review_due_at", sa.BigInteger(), nullable=True),
        sa.Column("alarmed_at", sa.BigInteger(), nullable=True),
        sa.Column("reviewed_at", sa.BigInteger(), nullable=True),
        sa.Column("reviewed_by", principal_name(256), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(role = 'break-glass') = (review_due_at IS NOT NULL)", name=op.f("ck_elevations_break_glass_is_reviewed")
        ),
        sa.CheckConstraint("verdict IS NULL OR verdict IN ('justified', 'unjustified')", name=op.f("ck_elevations_verdict")),
        sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name=op.f("ck_elevations_ended_by_somebody")),
        sa.CheckConstraint("(reviewed_at IS NULL) = (reviewed_by IS NULL)", name=op.f("ck_elevations_reviewed_by_somebody")),
        sa.CheckConstraint("(reviewed_at IS NULL) = (verdict IS NULL)", name=op.f("ck_elevations_reviewed_with_a_verdict")),
        sa.CheckConstraint("ends_at > started_at", name=op.f("ck_elevations_ends")),
        sa.CheckConstraint("reviewed_by IS NULL OR reviewed_by <> principal", name=op.f("ck_elevations_reviewed_by_another")),
        sa.ForeignKeyConstraint(["eligibility"], ["eligibilities.id"], name=op.f("fk_elevations_eligibility")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_elevations_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_elevations")),
    )
    op.create_index(
        "ix_elevations_ends_at",
        "elevations",
        ["ends_at"],
        unique=False,
        **only_where("ended_at IS NULL"),
    )
    op.create_index(
        "ix_elevations_review_due_at",
        "elevations",
        ["review_due_at"],
        unique=False,
        **only_where("review_due_at IS NOT NULL AND reviewed_at IS NULL"),
    )
    op.create_index(
        "one_break_glass_until_reviewed",
        "elevations",
        ["tenant", "principal"],
        unique=True,
        **only_where("role = 'break-glass' AND reviewed_at IS NULL"),
    )
    op.create_index(
        "one_elevation_of_a_credential",
        "elevations",
        ["credential"],
        unique=True,
        **only_where("ended_at IS NULL"),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("recipient", principal_name(256), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("elevation", sa.String(length=40), nullable=False),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind IN ('break-glass', 'review-overdue')", name=op.f("ck_alarms_kind")),
        sa.ForeignKeyConstraint(["elevation"], ["elevations.id"], name=op.f("fk_alarms_elevation")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_alarms_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
    op.create_index(
        "ix_alarms_recipient",
        "alarms",
        ["tenant", "recipient"],
        unique=False,
        **only_where("acknowledged_at IS NULL"),
    )
    if op.get_bind().dialect.name == "sqlite":
        for table in _UNDYING:
            act = f"BEGIN SELECT RAISE(ABORT, '{table} keeps its history'); END"
            op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {act}")


def downgrade() -> None:
    for table in ("alarms", "elevations", "eligibilities", "grants"):
        op.drop_table(table)

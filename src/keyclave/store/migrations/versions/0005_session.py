"""sessions and the short-lived ceremonies of login"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import principal_name

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(128), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("aal", sa.Integer(), nullable=False),
        sa.Column("how", sa.String(length=32), nullable=False),
        sa.Column("authenticator", sa.String(length=40), nullable=False),
        sa.Column("enrolling", sa.Boolean(), nullable=False),
        sa.Column("invitation", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("idle_seconds", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("stepped_up_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("NOT enrolling OR aal = 1", name=op.f("ck_sessions_enrolling_is_little")),
        sa.CheckConstraint("aal BETWEEN 1 AND 3", name=op.f("ck_sessions_aal")),
        sa.CheckConstraint("idle_seconds > 0 AND expires_at > created_at", name=op.f("ck_sessions_ends")),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_sessions_digest")),
        sa.ForeignKeyConstraint(
            ["tenant", "principal"], ["principals.tenant", "principals.name"], name=op.f("fk_sessions_tenant")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("digest", name=op.f("uq_sessions_digest")),
    )
    op.create_index("ix_sessions_principal", "sessions", ["tenant", "principal"], unique=False)
    op.create_table(
        "ceremonies",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_ceremonies_digest")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_ceremonies")),
    )
    op.create_index("ix_ceremonies_expires_at", "ceremonies", ["expires_at"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for table in ("sessions",):
            act = f"BEGIN SELECT RAISE(ABORT, '{table} keeps its history'); END"
            op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {act}")

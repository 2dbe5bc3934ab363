"""moments: what one request begins and another ends, for every node"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moments",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("code", sa.LargeBinary(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("held", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('claim', 'device', 'failure', 'import')", name=op.f("ck_moments_kind")),
        sa.CheckConstraint("length(name) = 32", name=op.f("ck_moments_name")),
        sa.CheckConstraint("code IS NULL OR length(code) = 32", name=op.f("ck_moments_code")),
        sa.CheckConstraint("length(held) <= 16384", name=op.f("ck_moments_held")),
        sa.CheckConstraint("expires_at > made_at", name=op.f("ck_moments_ends")),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_moments")),
        sa.UniqueConstraint("kind", "code", name=op.f("uq_moments_kind")),
    )
    op.create_index("ix_moments_owner", "moments", ["kind", "owner"], unique=False)
    op.create_index("ix_moments_expires_at", "moments", ["expires_at"], unique=False)


def downgrade() -> None:
    op.drop_table("moments")

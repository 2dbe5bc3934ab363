"""who holds which share of the root's recovery key"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import principal_name

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "share_holders",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("set_id", sa.String(length=8), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(128), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("named_by", principal_name(128), nullable=False),
        sa.Column("approval", sa.String(length=40), nullable=True),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.CheckConstraint("share BETWEEN 1 AND 16", name=op.f("ck_share_holders_share")),
        sa.CheckConstraint("length(principal) > 0", name=op.f("ck_share_holders_somebody")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_share_holders_tenant")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_share_holders")),
    )
    op.create_index("ix_share_holders_share", "share_holders", ["set_id", "share"], unique=False)
    op.create_index("ix_share_holders_principal", "share_holders", ["tenant", "principal"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER share_holders_no_{verb.lower()} BEFORE {verb} ON share_holders "
                "BEGIN SELECT RAISE(ABORT, 'share_holders is append-only'); END"
            )


def downgrade() -> None:
    op.drop_table("share_holders")

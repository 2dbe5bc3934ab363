"""policy revisions: what a tenant's policy was, from when, by whose decision"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import principal_name

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policy_revisions",
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=False),
        sa.Column("applied_by", principal_name(128), nullable=False),
        sa.Column("approval", sa.String(length=40), nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_policy_revisions_number")),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_policy_revisions_digest")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_policy_revisions_tenant")),
        sa.PrimaryKeyConstraint("tenant", "number", name=op.f("pk_policy_revisions")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER policy_revisions_no_{verb.lower()} BEFORE {verb} ON policy_revisions "
                "BEGIN SELECT RAISE(ABORT, 'policy_revisions is append-only'); END"
            )

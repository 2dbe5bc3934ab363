"""who did what on which thing, for separation of duties; what the rows knew already is carried over"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import principal_name

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KNOWN = (
    "SELECT k.tenant, 'key', k.id, CASE v.origin WHEN 'generated' THEN 'key-create' ELSE 'key-import' END, k.created_by, "
    "k.created_at FROM keys k JOIN key_versions v ON v.key_id = k.id AND v.number = 1",
    "SELECT k.tenant, 'key-version', v.key_id || ':' || v.number, 'schedule-destruction', v.destroy_by, v.created_at "
    "FROM key_versions v JOIN keys k ON k.id = v.key_id WHERE v.destroy_by IS NOT NULL",
    "SELECT tenant, 'invitation', id, 'invitation-create', invited_by, invited_at FROM invitations",
    "SELECT tenant, 'person', principal, 'invitation-create', invited_by, invited_at FROM invitations",
    "SELECT tenant, 'approval', id, 'approval-request', requester, requested_at FROM approvals",
    "SELECT a.tenant, 'approval', s.approval, 'approval-sign', s.approver, s.signed_at "
    "FROM approval_signatures s JOIN approvals a ON a.id = s.approval",
)
"""What was done before acts were kept; the time of scheduling was not, so the version's own stands for it."""


def upgrade() -> None:
    op.create_table(
        "acts",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", principal_name(300), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(256), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_acts_tenant")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_acts")),
    )
    op.create_index("ix_acts_subject", "acts", ["tenant", "kind", "subject"], unique=False)
    for known in _KNOWN:
        op.execute(f'INSERT INTO acts (tenant, "kind", subject, action, principal, at) {known}')
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER acts_no_{verb.lower()} BEFORE {verb} ON acts "
                "BEGIN SELECT RAISE(ABORT, 'acts is append-only'); END"
            )


def downgrade() -> None:
    op.drop_table("acts")

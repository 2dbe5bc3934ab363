"""requests for approval and what each approver signed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import principal_name

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ASKED = "id, tenant, operation, requester, canonical, digest, requested_at, expires_at, event"


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("operation", sa.String(length=40), nullable=False),
        sa.Column("requester", principal_name(128), nullable=False),
        sa.Column("canonical", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("ending", sa.String(length=16), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", principal_name(128), nullable=True),
        sa.Column("ended_why", sa.Text(), nullable=True),
        sa.Column("ended_event", sa.String(length=64), nullable=True),
        sa.Column("items_events", sa.Text(), nullable=True),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_approvals_digest")),
        sa.CheckConstraint("expires_at > requested_at", name=op.f("ck_approvals_window")),
        sa.CheckConstraint("ending IS NULL OR ending IN ('executed', 'denied', 'withdrawn')", name=op.f("ck_approvals_ending")),
        sa.CheckConstraint("(ending IS NULL) = (ended_at IS NULL)", name=op.f("ck_approvals_ended_at_a_time")),
        sa.CheckConstraint("(ending IS NULL) = (ended_by IS NULL)", name=op.f("ck_approvals_ended_by_somebody")),
        sa.CheckConstraint("(ending IS NULL) = (ended_event IS NULL)", name=op.f("ck_approvals_ended_with_its_event")),
        sa.CheckConstraint(
            "ending <> 'denied' OR ended_by <> requester", name=op.f("ck_approvals_withdrawn_not_denied_by_the_requester")
        ),
        sa.CheckConstraint("ending <> 'withdrawn' OR ended_by = requester", name=op.f("ck_approvals_withdrawn_by_the_requester")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_approvals_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        sa.UniqueConstraint("digest", name=op.f("uq_approvals_digest")),
    )
    op.create_index("ix_approvals_tenant", "approvals", ["tenant", "id"], unique=False)
    op.create_table(
        "approval_signatures",
        sa.Column("approval", sa.String(length=40), nullable=False),
        sa.Column("approver", principal_name(128), nullable=False),
        sa.Column("authenticator", sa.String(length=40), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["approval"], ["approvals.id"], name=op.f("fk_approval_signatures_approval")),
        sa.PrimaryKeyConstraint("approval", "approver", name=op.f("pk_approval_signatures")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            _guard(
                f"CREATE TRIGGER approval_signatures_no_{verb.lower()} BEFORE {verb} ON approval_signatures",
                "approval_signatures is append-only",
            )
        _guard("CREATE TRIGGER approvals_no_delete BEFORE DELETE ON approvals", "approvals keeps its history")
        _guard(
            f"CREATE TRIGGER approvals_stay_as_asked BEFORE UPDATE OF {_ASKED} ON approvals",
            "what was asked stays as it was asked",
        )
        _guard(
            "CREATE TRIGGER approvals_end_once BEFORE UPDATE ON approvals WHEN OLD.ending IS NOT NULL",
            "a request for approval ends once",
        )
        _guard(
            "CREATE TRIGGER approval_signatures_of_others BEFORE INSERT ON approval_signatures "
            "WHEN EXISTS (SELECT 1 FROM approvals WHERE id = NEW.approval AND (requester = NEW.approver OR ending IS NOT NULL))",
            "others sign, and while it is open",
        )


def _guard(when: str, why: str) -> None:
    op.execute(f"{when} BEGIN SELECT RAISE(ABORT, '{why}'); END")


def downgrade() -> None:
    for table in ("approval_signatures", "approvals"):
        op.drop_table(table)

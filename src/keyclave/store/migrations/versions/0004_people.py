"""people: principals' standing, authenticators, invitations, eligibilities"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import only_where, principal_name

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE principals ADD COLUMN kind VARCHAR(8) NOT NULL DEFAULT 'person' "
        "CONSTRAINT ck_principals_kind CHECK (kind IN ('person', 'workload'))"
    )
    op.execute("ALTER TABLE principals ADD COLUMN disabled_at BIGINT")
    op.execute("UPDATE principals SET kind = 'workload' WHERE role = 'application'")
    op.create_table(
        "authenticators",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=False),
        sa.Column("public", sa.LargeBinary(), nullable=True),
        sa.Column("handle", sa.LargeBinary(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("aal", sa.Integer(), nullable=False),
        sa.Column("aaguid", sa.String(length=36), nullable=False),
        sa.Column("backup_eligible", sa.Boolean(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("enrolled_at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_why", sa.String(length=32), nullable=True),
        sa.CheckConstraint("(kind = 'passkey') = (handle IS NOT NULL)", name=op.f("ck_authenticators_handle")),
        sa.CheckConstraint("(kind IN ('passkey', 'key')) = (public IS NOT NULL)", name=op.f("ck_authenticators_public")),
        sa.CheckConstraint("(kind IN ('totp', 'password')) = (sealed IS NOT NULL)", name=op.f("ck_authenticators_sealed")),
        sa.CheckConstraint("kind IN ('passkey', 'key', 'totp', 'recovery', 'password')", name=op.f("ck_authenticators_kind")),
        sa.CheckConstraint("(revoked_at IS NULL) = (revoked_why IS NULL)", name=op.f("ck_authenticators_revoked_for_a_reason")),
        sa.CheckConstraint("aal < 3 OR NOT backup_eligible", name=op.f("ck_authenticators_synced_is_never_the_highest")),
        sa.CheckConstraint("aal BETWEEN 1 AND 3", name=op.f("ck_authenticators_aal")),
        sa.ForeignKeyConstraint(
            ["tenant", "principal"], ["principals.tenant", "principals.name"], name=op.f("fk_authenticators_tenant")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authenticators")),
        sa.UniqueConstraint("handle", name=op.f("uq_authenticators_handle")),
    )
    op.create_index("ix_authenticators_principal", "authenticators", ["tenant", "principal"], unique=False)
    op.create_table(
        "recovery_codes",
        sa.Column("authenticator", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_recovery_codes_digest")),
        sa.ForeignKeyConstraint(["authenticator"], ["authenticators.id"], name=op.f("fk_recovery_codes_authenticator")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("principal", principal_name(128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("invited_by", principal_name(128), nullable=False),
        sa.Column("invited_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_by", principal_name(128), nullable=True),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("role <> 'application'", name=op.f("ck_invitations_people")),
        sa.CheckConstraint("(confirmed_by IS NULL) = (confirmed_at IS NULL)", name=op.f("ck_invitations_confirmed")),
        sa.CheckConstraint("confirmed_by <> invited_by", name=op.f("ck_invitations_by_two")),
        sa.CheckConstraint("principal <> invited_by AND principal <> confirmed_by", name=op.f("ck_invitations_not_oneself")),
        sa.CheckConstraint("used_at IS NULL OR confirmed_at IS NOT NULL", name=op.f("ck_invitations_used_once_confirmed")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("digest", name=op.f("uq_invitations_digest")),
    )
    op.create_index("ix_invitations_tenant", "invitations", ["tenant"], unique=False)
    op.create_table(
        "memberships",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(128), nullable=False),
        sa.Column("role", sa.String(length=128), nullable=False),
        sa.Column("given_by", principal_name(128), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("given_by <> principal", name=op.f("ck_memberships_not_by_oneself")),
        sa.ForeignKeyConstraint(
            ["tenant", "principal"], ["principals.tenant", "principals.name"], name=op.f("fk_memberships_tenant")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memberships")),
    )
    op.create_index(
        "one_membership",
        "memberships",
        ["tenant", "principal", "role"],
        unique=True,
        **only_where("ended_at IS NULL"),
    )
    if op.get_bind().dialect.name == "sqlite":
        for table in ("authenticators", "recovery_codes", "invitations", "memberships"):
            act = f"BEGIN SELECT RAISE(ABORT, '{table} keeps its history'); END"
            op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {act}")

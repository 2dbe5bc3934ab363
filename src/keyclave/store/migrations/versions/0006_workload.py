"""workloads: the internal authorities, certificates, enrolment tokens, revocations, what is bound and renewed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import principal_name

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_GUARDED = (
    ("blocked_certificates", ("UPDATE", "DELETE"), "is append-only"),
    ("bindings", ("UPDATE", "DELETE"), "is append-only"),
    ("renewals", ("UPDATE", "DELETE"), "is append-only"),
    ("authorities", ("DELETE",), "keeps its history"),
    ("workloads", ("DELETE",), "keeps its history"),
    ("enrolments", ("DELETE",), "keeps its history"),
    ("certificates", ("DELETE",), "keeps its history"),
)


def upgrade() -> None:
    op.create_table(
        "blocked_certificates",
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("blocked_at", sa.BigInteger(), nullable=False),
        sa.Column("blocked_by", principal_name(128), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_blocked_certificates")),
    )
    op.create_table(
        "authorities",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("domain", sa.String(length=255), nullable=False),
        sa.Column("spec", sa.String(length=16), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", principal_name(128), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_authorities_number")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_authorities_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorities")),
        sa.UniqueConstraint("tenant", "number", name=op.f("uq_authorities_tenant")),
    )
    op.create_table(
        "bindings",
        sa.Column("credential", sa.String(length=40), nullable=False),
        sa.Column("thumbprint", sa.LargeBinary(), nullable=False),
        sa.Column("certificate", sa.String(length=40), nullable=False),
        sa.CheckConstraint("length(thumbprint) = 32", name=op.f("ck_bindings_thumbprint")),
        sa.ForeignKeyConstraint(["credential"], ["credentials.id"], name=op.f("fk_bindings_credential")),
        sa.PrimaryKeyConstraint("credential", name=op.f("pk_bindings")),
    )
    op.create_table(
        "enrolments",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(length=2048), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", principal_name(128), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_enrolments_digest")),
        sa.CheckConstraint("uses >= 1 AND used BETWEEN 0 AND uses", name=op.f("ck_enrolments_never_more_than_its_uses")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_enrolments_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolments")),
        sa.UniqueConstraint("digest", name=op.f("uq_enrolments_digest")),
    )
    op.create_table(
        "renewals",
        sa.Column("credential", sa.String(length=40), nullable=False),
        sa.Column("renewed", sa.String(length=40), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["credential"], ["credentials.id"], name=op.f("fk_renewals_credential")),
        sa.ForeignKeyConstraint(["renewed"], ["credentials.id"], name=op.f("fk_renewals_renewed")),
        sa.PrimaryKeyConstraint("credential", name=op.f("pk_renewals")),
        sa.UniqueConstraint("renewed", name=op.f("uq_renewals_renewed")),
    )
    op.create_table(
        "workloads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=2048), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", principal_name(128), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_workloads_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workloads")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_workloads_tenant")),
    )
    op.create_table(
        "certificates",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("authority", sa.String(length=40), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("thumbprint", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(length=2048), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("length(thumbprint) = 32", name=op.f("ck_certificates_thumbprint")),
        sa.ForeignKeyConstraint(["authority"], ["authorities.id"], name=op.f("fk_certificates_authority")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_certificates_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificates")),
        sa.UniqueConstraint("authority", "serial", name=op.f("uq_certificates_authority")),
        sa.UniqueConstraint("thumbprint", name=op.f("uq_certificates_thumbprint")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for table, verbs, why in _GUARDED:
            for verb in verbs:
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} {why}'); END"
                )

"""the first schema"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from keyclave.store.columns import only_where, principal_name

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The log is append-only, history is not deleted, and what is destroyed stays destroyed.
_GUARDED = (
    ("segments", ("UPDATE", "DELETE"), "is append-only"),
    ("log_tiles", ("UPDATE", "DELETE"), "is append-only"),
    ("checkpoints", ("UPDATE", "DELETE"), "is append-only"),
    ("keys", ("DELETE",), "keeps its history"),
    ("key_versions", ("DELETE",), "keeps its history"),
    ("credentials", ("DELETE",), "keeps its history"),
    ("principals", ("DELETE",), "keeps its history"),
    ("tenants", ("DELETE",), "keeps its history"),
)
_STAY_GONE = (
    "CREATE TRIGGER key_versions_stay_gone BEFORE UPDATE OF state, sealed ON key_versions "
    "WHEN OLD.state IN ('destroyed', 'destroyed-compromised') "
    "AND (NEW.state NOT IN ('destroyed', 'destroyed-compromised') OR NEW.sealed IS NOT NULL) "
    "BEGIN SELECT RAISE(ABORT, 'a destroyed version stays destroyed'); END"
)
_NO_GAP = (
    "CREATE TRIGGER segments_no_gap BEFORE INSERT ON segments "
    "WHEN NEW.first <> coalesce((SELECT first + count FROM segments ORDER BY first DESC LIMIT 1), 0) "
    "BEGIN SELECT RAISE(ABORT, 'segments leave no gap'); END"
)


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(128), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", principal_name(128), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sa.UniqueConstraint("digest", name=op.f("uq_credentials_digest")),
    )
    with op.batch_alter_table("credentials", schema=None) as batch_op:
        batch_op.create_index("ix_credentials_tenant", ["tenant"], unique=False)

    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", principal_name(128), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "principal", "key", name=op.f("pk_idempotency")),
    )
    with op.batch_alter_table("idempotency", schema=None) as batch_op:
        batch_op.create_index("ix_idempotency_created_at", ["created_at"], unique=False)

    op.create_table(
        "log_tiles",
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(hashes) = 8192", name=op.f("ck_log_tiles_full")),
        sa.PrimaryKeyConstraint("level", "number", name=op.f("pk_log_tiles")),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
    )
    op.create_table(
        "segments",
        sa.Column("first", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("entries", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("count >= 1", name=op.f("ck_segments_count")),
        sa.PrimaryKeyConstraint("first", name=op.f("pk_segments")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("home", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("spec", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("environment", sa.String(length=128), nullable=False),
        sa.Column("classification", sa.String(length=128), nullable=False),
        sa.Column("location", sa.String(length=32), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("cryptoperiod", sa.Text(), nullable=False),
        sa.Column("rotation", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", principal_name(128), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.CheckConstraint("rev >= 1", name=op.f("ck_keys_rev")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_keys_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_keys_tenant")),
    )
    op.create_table(
        "principals",
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("name", principal_name(128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "role IN ('custodian', 'operator', 'auditor', 'application', 'break-glass', 'person')",
            name=op.f("ck_principals_role"),
        ),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_principals_tenant")),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_principals")),
    )
    op.create_table(
        "tenant_keys",
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("duty", sa.String(length=16), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("duty IN ('operational', 'archive', 'context')", name=op.f("ck_tenant_keys_duty")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name=op.f("fk_tenant_keys_tenant")),
        sa.PrimaryKeyConstraint("tenant", "duty", name=op.f("pk_tenant_keys")),
    )
    op.create_table(
        "key_versions",
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("is_primary", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("kcv", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("deactivated_at", sa.BigInteger(), nullable=True),
        sa.Column("archived_at", sa.BigInteger(), nullable=True),
        sa.Column("compromised_at", sa.BigInteger(), nullable=True),
        sa.Column("destroy_at", sa.BigInteger(), nullable=True),
        sa.Column("destroy_by", principal_name(128), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.Column("public", sa.LargeBinary(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("used", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "(state IN ('destroyed', 'destroyed-compromised')) = (destroyed_at IS NOT NULL)",
            name=op.f("ck_key_versions_gone_has_its_date"),
        ),
        sa.CheckConstraint(
            "(state IN ('destroyed', 'destroyed-compromised')) = (sealed IS NULL)",
            name=op.f("ck_key_versions_gone_has_no_material"),
        ),
        sa.CheckConstraint("origin IN ('generated', 'imported')", name=op.f("ck_key_versions_origin")),
        sa.CheckConstraint("state <> 'active' OR activated_at IS NOT NULL", name=op.f("ck_key_versions_active_has_its_date")),
        sa.CheckConstraint(
            "state IN ('pre-active', 'active', 'suspended', 'deactivated', 'archived', 'compromised', "
            "'destroyed', 'destroyed-compromised')",
            name=op.f("ck_key_versions_state"),
        ),
        sa.CheckConstraint("(destroy_at IS NULL) = (destroy_by IS NULL)", name=op.f("ck_key_versions_scheduled_by_somebody")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_key_versions_number")),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_key_versions_key_id")),
        sa.PrimaryKeyConstraint("key_id", "number", name=op.f("pk_key_versions")),
    )
    with op.batch_alter_table("key_versions", schema=None) as batch_op:
        batch_op.create_index(
            "one_primary_version",
            ["key_id"],
            unique=True,
            **only_where("is_primary = 1", "is_primary"),
        )
    if op.get_bind().dialect.name == "sqlite":
        for table, verbs, why in _GUARDED:
            for verb in verbs:
                act = f"BEGIN SELECT RAISE(ABORT, '{table} {why}'); END"
                op.execute(f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {act}")
        op.execute(_STAY_GONE)
        op.execute(_NO_GAP)


def downgrade() -> None:
    with op.batch_alter_table("key_versions", schema=None) as batch_op:
        batch_op.drop_index("one_primary_version", **only_where("is_primary = 1", "is_primary"))

    op.drop_table("key_versions")
    op.drop_table("tenant_keys")
    op.drop_table("principals")
    op.drop_table("keys")
    op.drop_table("tenants")
    op.drop_table("segments")
    op.drop_table("meta")
    op.drop_table("log_tiles")
    with op.batch_alter_table("idempotency", schema=None) as batch_op:
        batch_op.drop_index("ix_idempotency_created_at")

    op.drop_table("idempotency")
    with op.batch_alter_table("credentials", schema=None) as batch_op:
        batch_op.drop_index("ix_credentials_tenant")

    op.drop_table("credentials")
    op.drop_table("checkpoints")

"""keys that a node may decrypt with while it is cut off, and what nodes say of that

One statement adds a column with its CHECK on either engine; a table of keys is not written anew for it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STALE = (
    "ALTER TABLE keys ADD COLUMN stale VARCHAR(8) DEFAULT 'never' NOT NULL "
    "CONSTRAINT ck_keys_stale CHECK (stale IN ('never', 'allowed', 'ended'))"
)


def upgrade() -> None:
    op.execute(_STALE)
    op.execute("CREATE INDEX ever_stale ON keys (id) WHERE stale <> 'never'")
    op.add_column("nodes", sa.Column("stale", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("nodes", sa.Column("spool", sa.String(length=16), nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER keys_remember_stale BEFORE UPDATE OF stale ON keys WHEN NEW.stale = 'never' AND OLD.stale <> 'never' "
            "BEGIN SELECT RAISE(ABORT, 'that stale use was allowed once is not forgotten'); END"
        )


def downgrade() -> None:
    for column in ("spool", "stale"):
        op.drop_column("nodes", column)
    of_table = "" if op.get_bind().dialect.name == "sqlite" else " ON keys"
    op.execute(f"DROP TRIGGER IF EXISTS keys_remember_stale{of_table}")
    op.execute("DROP INDEX ever_stale")
    op.drop_column("keys", "stale")

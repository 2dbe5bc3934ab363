"""a key's row says by which event a person made it, in place of two rows in the table of acts

What was made before keeps its acts. Programs that do not know the column would not see who made a key, so they do not serve this.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_AS_MADE = {"keys": ("id", "tenant", "created_at", "created_by", "made_in"), "key_versions": ("key_id", "number", "origin")}
_MADE = (
    'INSERT INTO acts (tenant, "kind", subject, action, principal, at, event) '
    "SELECT k.tenant, {kind}, {subject}, CASE v.origin WHEN 'generated' THEN 'key-create' ELSE 'key-import' END, k.created_by, "
    "k.created_at, k.made_in FROM keys k JOIN key_versions v ON v.key_id = k.id AND v.number = 1 WHERE k.made_in IS NOT NULL "
    "ORDER BY k.id"
)


def upgrade() -> None:
    op.add_column("keys", sa.Column("made_in", sa.String(length=64), nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        for table, columns in _AS_MADE.items():
            changed = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in columns)
            op.execute(
                f"CREATE TRIGGER {table}_stay_as_made BEFORE UPDATE OF {', '.join(columns)} ON {table} WHEN {changed} "
                "BEGIN SELECT RAISE(ABORT, 'how it was made is not changed'); END"
            )


def downgrade() -> None:
    for table in _AS_MADE:
        of_table = "" if op.get_bind().dialect.name == "sqlite" else f" ON {table}"
        op.execute(f"DROP TRIGGER IF EXISTS {table}_stay_as_made{of_table}")
    for kind, subject in (("'key'", "k.id"), ("'key-version'", "k.id || ':' || v.number")):
        op.execute(_MADE.format(kind=kind, subject=subject))
    op.drop_column("keys", "made_in")

"""nodes, their journals, and the log of changes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NODE = sa.String(length=16)
_NO_GAP = (
    "CREATE TRIGGER segments_no_gap BEFORE INSERT ON segments "
    "WHEN NEW.first <> coalesce((SELECT first + count FROM segments ORDER BY first DESC LIMIT 1), 0) "
    "BEGIN SELECT RAISE(ABORT, 'segments leave no gap'); END"
)
_JOURNAL_NO_GAP = (
    "CREATE TRIGGER journal_no_gap BEFORE INSERT ON journal "
    "WHEN NEW.first <> coalesce((SELECT first + count FROM journal WHERE node = NEW.node ORDER BY first DESC LIMIT 1), 0) "
    "BEGIN SELECT RAISE(ABORT, 'a journal leaves no gap'); END"
)


def _serial() -> sa.BigInteger:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "journal",
        sa.Column("node", _NODE, nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("entries", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("count >= 1", name=op.f("ck_journal_count")),
        sa.CheckConstraint("first >= 0", name=op.f("ck_journal_first")),
        sa.PrimaryKeyConstraint("node", "first", name=op.f("pk_journal")),
    )
    counter = op.create_table(
        "change_counter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_change_counter_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change_counter")),
    )
    op.execute(counter.insert().values(id=1, n=0))
    op.create_table(
        "changes",
        sa.Column("n", _serial(), nullable=False),
        sa.Column("node", _NODE, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_changes")),
    )
    op.create_table(
        "nodes",
        sa.Column("id", _NODE, nullable=False),
        sa.Column("address", sa.String(length=256), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("schema", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("skew", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("left_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("holder", _NODE, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    with op.batch_alter_table("segments") as segments:  # on SQLite a copy: its guards go with the old table and are made anew
        segments.alter_column("entries", existing_type=sa.LargeBinary(), nullable=True)
        segments.add_column(sa.Column("node", _NODE, nullable=True))
        segments.add_column(sa.Column("node_first", sa.BigInteger(), nullable=True))
        segments.create_check_constraint(op.f("ck_segments_lies_somewhere"), "entries IS NOT NULL OR node IS NOT NULL")
        segments.create_check_constraint(op.f("ck_segments_from_a_number_on"), "(node IS NULL) = (node_first IS NULL)")
    somewhere = sa.text("node IS NOT NULL")
    op.create_index(
        "one_place_for_each",
        "segments",
        ["node", "node_first"],
        unique=True,
        sqlite_where=somewhere,
        postgresql_where=somewhere,
    )
    if op.get_bind().dialect.name == "sqlite":
        for table in ("segments", "journal"):
            for verb in ("UPDATE", "DELETE"):
                act = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                op.execute(f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {act}")
        act = "BEGIN SELECT RAISE(ABORT, 'change_counter keeps its history'); END"
        op.execute(f"CREATE TRIGGER change_counter_no_delete BEFORE DELETE ON change_counter {act}")
        op.execute(_NO_GAP)
        op.execute(_JOURNAL_NO_GAP)


def downgrade() -> None:
    """A store whose events lie in journals cannot go back: the constraint of `entries` refuses it, and nothing is lost."""
    op.drop_index("one_place_for_each", table_name="segments")
    with op.batch_alter_table("segments") as segments:
        segments.drop_constraint(op.f("ck_segments_lies_somewhere"), type_="check")
        segments.drop_constraint(op.f("ck_segments_from_a_number_on"), type_="check")
        segments.drop_column("node_first")
        segments.drop_column("node")
        segments.alter_column("entries", existing_type=sa.LargeBinary(), nullable=False)
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            act = "BEGIN SELECT RAISE(ABORT, 'segments is append-only'); END"
            op.execute(f"CREATE TRIGGER segments_no_{verb.lower()} BEFORE {verb} ON segments {act}")
        op.execute(_NO_GAP)
    for table in ("leases", "nodes", "changes", "change_counter", "journal"):
        op.drop_table(table)

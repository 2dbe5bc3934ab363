"""versions of keys lie in the order of their keys (SQLite)

A version is only ever asked for by its key and number. As a table of its own order with an index beside it, each look read two
places of the file; now the rows lie in the index itself. PostgreSQL has no such tables.
"""

from __future__ import annotations

from collections.abc import Callable

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_IN_ORDER = " WITHOUT ROWID"


def upgrade() -> None:
    _write_anew(lambda definition: definition + _IN_ORDER)


def downgrade() -> None:
    _write_anew(lambda definition: definition.removesuffix(_IN_ORDER))


def _write_anew(changed: Callable[[str], str]) -> None:
    """Make the table again as it was defined, but for how it lies; its constraints, indexes and guards stay word for word.

    Nothing refers to a version, so the old table goes without anybody missing it.
    """
    conn = op.get_bind()
    if conn.dialect.name != "sqlite":
        return
    of_table = "FROM sqlite_master WHERE tbl_name = 'key_versions' AND sql IS NOT NULL AND type"
    (definition,) = conn.exec_driver_sql(f"SELECT sql {of_table} = 'table'").one()
    beside = conn.exec_driver_sql(f"SELECT sql {of_table} IN ('index', 'trigger') ORDER BY type, name").scalars().all()
    columns = definition[definition.index("(") :]
    op.execute(changed(f"CREATE TABLE key_versions_anew {columns}"))
    op.execute("INSERT INTO key_versions_anew SELECT * FROM key_versions ORDER BY key_id, number")
    op.execute("DROP TABLE key_versions")
    op.execute("ALTER TABLE key_versions_anew RENAME TO key_versions")
    for statement in beside:
        op.execute(statement)

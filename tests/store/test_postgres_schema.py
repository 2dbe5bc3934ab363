"""The schema on PostgreSQL: made by the same migrations, guarded, and out of reach of the servers' role."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from keyclave.store import migrations, schema, versions
from tests.postgres import Database


def test_the_migrated_schema_is_the_one_in_the_code(database: Database) -> None:
    engine = create_engine("postgresql+psycopg://", creator=database.connect, poolclass=NullPool)
    with engine.connect() as conn:
        found = compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), schema.metadata)
    assert found == []


def test_the_program_knows_the_newest_migration() -> None:
    """The server compares without Alembic, which takes a second to import."""
    assert ScriptDirectory.from_config(migrations.config()).get_current_head() == versions.revision()

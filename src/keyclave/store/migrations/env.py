"""Alembic's entry: runs the scripts on the connection that `keyclave.store.migrations` hands over."""

from __future__ import annotations

from alembic import context

from keyclave.store import schema  # noqa: F401 - makes the tables known
from keyclave.store.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

"""Migrations (Alembic), run by `keyclave init` and `keyclave migrate`, never by the server: it only checks that it is current."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

HERE = Path(__file__).parent


def config() -> Config:
    """Return Alembic's configuration for the scripts beside this file."""
    settings = Config()
    settings.set_main_option("script_location", str(HERE))
    settings.set_main_option("path_separator", "os")
    return settings


def upgrade(connect: Callable[[], sqlite3.Connection]) -> None:
    """Bring a database to the newest schema, in one transaction."""
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    with engine.connect() as conn:
        settings = config()
        settings.attributes["connection"] = conn
        command.upgrade(settings, "head")
        conn.commit()
    engine.dispose()

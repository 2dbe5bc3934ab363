"""PostgreSQL as it is measured: the server of the tests' settings and access, but on a disk, syncing as one in service does."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bench.processes import free_port
from tests import postgres_keeper
from tests.postgres import APP, OWNER, Database, Server, migrate, prepare, until

_PLACE = "/var/tmp"
_SETTINGS = """
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
shared_buffers = 256MB
max_wal_size = 4GB
"""


@contextmanager
def database_server() -> Iterator[Server]:
    """Run a server of our own; it ends, and its data goes, with the block."""
    folder = Path(tempfile.mkdtemp(prefix="keyclave-bench-", dir=_PLACE))
    folder.chmod(0o755)
    port = free_port()
    try:
        postgres_keeper.make(folder, port)
        with (folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        process = postgres_keeper.start(folder)
        try:
            server = Server(folder, port)
            until(lambda: _answers(server), "PostgreSQL does not answer")
            prepare(server)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(server: Server) -> bool:
    try:
        server.connect().close()
    except psycopg.OperationalError:
        return False
    return True


def new_database(server: Server, name: str) -> Database:
    """Make a database with the newest schema and nothing in it."""
    with server.connect() as conn:
        conn.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template0")
        conn.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        conn.execute(f"GRANT CONNECT ON DATABASE {name} TO {APP}")
    migrate(server, name)
    return Database(server, name)

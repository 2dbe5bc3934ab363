"""PostgreSQL for tests: one throw-away server for the whole session and all its processes, a database of its own for each test.

The server is started by whoever needs it first and ends with the session (tests/postgres_keeper.py). A database is a copy of one
that was migrated once, which takes a few hundredths of a second.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from keyclave.store import migrations
from tests.live import free_port

SESSION = "KEYCLAVE_TEST_SESSION"  # of the environment: the session's own process, which all its workers know
TEMPLATE = "keyclave_template"
OWNER, APP, SUPERUSER = "keyclave_owner", "keyclave_app", "postgres"
PASSWORD = "only-for-tests"
_SECONDS = 60
_ROOM = 2 << 30  # bytes


@dataclass(frozen=True)
class Server:
    """The running server."""

    folder: Path
    port: int

    def connect(self, database: str = "postgres", user: str = SUPERUSER) -> psycopg.Connection[Any]:
        """Connect over the socket, where everybody is believed."""
        return psycopg.connect(host=str(self.folder), port=self.port, dbname=database, user=user, autocommit=True)


@dataclass(frozen=True)
class Database:
    """A database of a test's own, with the newest schema."""

    server: Server
    name: str

    def url(self, user: str = APP) -> str:
        """Return its address over the socket."""
        return f"postgresql://{user}@/{self.name}?host={self.server.folder}&port={self.server.port}"

    def tls_url(self, user: str = APP, host: str = "localhost") -> str:
        """Return its address over TLS with verification; the password comes from `passfile`."""
        file = self.server.folder / "ca.pem"
        return f"postgresql://{user}@{host}:{self.server.port}/{self.name}?sslmode=verify-full&sslrootcert={file}"

    def connect(self, user: str = SUPERUSER) -> psycopg.Connection[Any]:
        """Connect as somebody, past the store."""
        return self.server.connect(self.name, user)

    def keep(self) -> None:
        """Copy it as it is, while nobody is connected."""
        with self.server.connect() as conn:
            _make(conn, f"{self.name}_kept", self.name)

    def put_back(self) -> None:
        """Put the copy in its place."""
        with self.server.connect() as conn:
            conn.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
            conn.execute(f"ALTER DATABASE {self.name}_kept RENAME TO {self.name}")


@cache
def server() -> Server:
    """Return the session's server; start it, if nobody has yet."""
    session = os.environ.setdefault(SESSION, str(os.getpid()))
    folder = _place() / f"keyclave-postgres-{session}"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o755)
            _start(folder, int(session))
        found = Server(folder, int((folder / "port").read_text()))
        prepare(found)
    return found


def _place() -> Path:
    """Return where it lies: in memory where there is room, so that the syncs it really makes cost nothing."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM:
        return memory
    return Path(tempfile.gettempdir())


def _start(folder: Path, session: int) -> None:
    (folder / "port").write_text(str(free_port()))
    root = Path(__file__).parent.parent
    subprocess.Popen(
        [sys.executable, "-m", "tests.postgres_keeper", str(folder), str(session)],
        cwd=root, env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until(lambda: (folder / "ready").exists() or (folder / "failed").exists(), "PostgreSQL did not start")
    if (folder / "failed").exists():
        raise RuntimeError((folder / "failed").read_text())


def until(condition: Any, complaint: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(complaint)
        time.sleep(0.02)  # between two looks at a condition


def prepare(found: Server) -> None:
    """Make the roles and the database that all others are copies of, once."""

    def answers() -> bool:
        try:
            found.connect().close()
            return True
        except psycopg.OperationalError:
            return False

    until(answers, "PostgreSQL does not answer")
    with found.connect() as conn:
        if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s AND datistemplate", (TEMPLATE,)).fetchone():
            return
        for role in (OWNER, APP):
            if not conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        conn.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
        conn.execute(f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
        migrate(found, TEMPLATE)
        conn.execute(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true")


def migrate(found: Server, database: str) -> None:
    """Bring a database to the newest schema, as its owner."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: found.connect(database, OWNER), poolclass=NullPool)
    with engine.connect() as conn:
        conn.connection.driver_connection.autocommit = False  # type: ignore[union-attr]
        migrations.upgrade_postgres(conn)
        conn.commit()
    engine.dispose()


@contextmanager
def new_database(*, empty: bool = False, template: str = TEMPLATE) -> Iterator[Database]:
    """Make a database, lend it, and drop it: a copy of `template`, which nobody is connected to, or `empty`."""
    found = server()
    name = f"t{os.getpid()}_{time.monotonic_ns()}"
    with found.connect() as conn:
        _make(conn, name, "template0" if empty else template)
    try:
        yield Database(found, name)
    finally:
        with found.connect() as conn:
            for of in (name, f"{name}_kept"):
                conn.execute(f"DROP DATABASE IF EXISTS {of} WITH (FORCE)")


def _make(conn: psycopg.Connection[Any], name: str, template: str) -> None:
    conn.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
    conn.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    conn.execute(f"GRANT CONNECT ON DATABASE {name} TO {APP}")

"""The two ends of a move: the store that is served now and the one it goes to, each a file or a database, opened by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from keyclave.app.config import Config, StoreSection
from keyclave.app.database import address_of, migrate_in, owner_of
from keyclave.core.errors import Malformed, Unavailable
from keyclave.store.embedded import file
from keyclave.store.pg import checks
from keyclave.store.pg.connections import driver_of


def source_of(home: Path, config: Config) -> StoreSection | Path:
    """Return where the store of a home is now."""
    return config.store if config.store.url else home / config.database


@contextmanager
def opened(where: StoreSection | Path, home: Path, config: Config) -> Iterator[Connection]:
    """Yield a connection to a store whose transactions are begun by `transaction`."""
    if isinstance(where, StoreSection):
        with owner_of(address_of(where, home, development=config.development)) as conn:
            yield conn
        return
    if not where.exists():
        raise Unavailable(f"there is no database at {where}", "name the home that is in use")
    engine = create_engine("sqlite://", creator=lambda: file.connect(where), poolclass=NullPool, hide_parameters=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        yield conn
    engine.dispose()


def make_file(path: Path) -> bool:
    """Make a new file, or take an empty one that an earlier move left; tell whether it is new. Nothing else is touched.

    A link is refused, wherever it leads: whoever may write to its folder would choose the place.
    """
    if path.is_symlink() or not path.parent.is_dir():
        raise Malformed(f"{path} is a link, or in no folder", "name a new file in a folder that exists")
    if not path.exists():
        file.create(path, "")
        return True
    if not path.is_file() or not file.is_ours(path):
        raise Malformed(f"{path} is there already, and is no empty store", "name a new file")
    return False


def prepare(conn: Connection, config: Config) -> None:
    """See that the database can take it; the schema is made where the user may make one."""
    checks.check_server(conn, development=config.development)
    if not checks.has_schema(conn):
        migrate_in(conn)


@contextmanager
def transaction(conn: Connection) -> Iterator[None]:
    """One transaction on either engine, seen as it was at its beginning."""
    if conn.dialect.name == "sqlite":
        raw = conn.connection.driver_connection
        begin = "BEGIN IMMEDIATE"
    else:
        raw, begin = driver_of(conn), "BEGIN ISOLATION LEVEL SERIALIZABLE"
    raw.execute(begin)  # type: ignore[union-attr]
    try:
        yield
    except BaseException:
        raw.execute("ROLLBACK")  # type: ignore[union-attr]
        raise
    raw.execute("COMMIT")  # type: ignore[union-attr]

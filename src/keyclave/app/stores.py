"""Which store a home has: a file of its own, or a database server that other nodes use as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from keyclave.app.config import Config, StoreSection
from keyclave.core.errors import Broken, Malformed
from keyclave.crypto.module import CryptoModule
from keyclave.store import records, versions
from keyclave.store.embedded import file
from keyclave.store.pg import checks, faults
from keyclave.store.pg.address import Address, own_password_file, read_address
from keyclave.store.pg.connections import driver_of, open_connection, open_engine
from keyclave.store.postgres import PostgresStore
from keyclave.store.sqlite import SqliteStore

AnyStore = SqliteStore | PostgresStore
ROOT_SEALED = "root.sealed"
_NODE_BYTES = 8  # of a node's name: drawn anew at each start, and never the same twice
_MAY_CREATE = "SELECT has_schema_privilege(current_user, 'public', 'CREATE')"


@dataclass(frozen=True)
class New:
    """A store without an installation. `claim` begins the transaction that gives it one, named `cluster`."""

    store: AnyStore
    cluster: str
    claim: Callable[[Connection], None]


def open_store(
    config: Config,
    home: Path,
    module: CryptoModule,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    shared: bool = False,
) -> AnyStore:
    """Open the store that the configuration names."""
    if not config.store.url:
        return SqliteStore(home / config.database, later=loop.call_soon if loop else None, shared=shared)
    address = address_of(config.store, home, development=config.development)
    node = module.random(_NODE_BYTES).hex()
    return PostgresStore(address, node, loop=loop, development=config.development, cluster=config.store.cluster)


def address_of(section: StoreSection, home: Path, *, development: bool) -> Address:
    """Return the checked address of a home's database."""
    return read_address(section.url, development=development, password_file=own_password_file(home, section.password_file))


def create_store(path: Path, section: StoreSection | None, home: Path, module: CryptoModule, *, development: bool) -> New:
    """Make an empty store for a new home."""
    if section is None or not section.url:
        file.create(path, module.random(4).hex())
        return New(SqliteStore(path), "", lambda conn: None)
    address = address_of(section, home, development=development)
    cluster = module.random(_NODE_BYTES).hex()
    with owner_of(address) as conn:
        checks.check_server(conn, development=development)
        if not checks.has_schema(conn):
            if not conn.exec_driver_sql(_MAY_CREATE).scalar_one():
                raise Broken(
                    "the database has no schema, and this user cannot make it",
                    "run `keyclave migrate --store …` with the owner's account first",
                )
            migrate_postgres(conn)
    store = PostgresStore(address, module.random(_NODE_BYTES).hex(), development=development)
    home_node = module.random(4).hex().encode()

    def claim(conn: Connection) -> None:
        if records.read_meta(conn, ROOT_SEALED) is not None:
            raise Malformed("the database belongs to an installation already", "name an empty one")
        records.write_meta(conn, versions.CLUSTER, cluster.encode())
        records.write_meta(conn, "node", home_node)

    return New(store, cluster, claim)


@contextmanager
def owner_of(address: Address) -> Iterator[Connection]:
    """Connect for what is done to a database as a whole: one connection, no threads."""
    engine = open_engine(address)
    try:
        conn = open_connection(engine)
    except faults.FAULTS as fault:
        raise faults.refused(fault, address.shown) from None
    try:
        driver_of(conn).execute("SET idle_in_transaction_session_timeout = 0")
        driver_of(conn).execute("SET lock_timeout = 0")
        yield conn
    finally:
        conn.close()
        engine.dispose()


def migrate_postgres(conn: Connection) -> None:
    """Bring the database to the newest schema, whole or not at all."""
    from keyclave.store import migrations

    driver = driver_of(conn)
    driver.execute("BEGIN")
    try:
        migrations.upgrade_postgres(conn)
        driver.execute("COMMIT")
    except faults.FAULTS as fault:
        driver.execute("ROLLBACK")
        if faults.state_of(fault) == faults.NO_RIGHT:
            raise Malformed("this user may not change the schema", "name the database's owner in the address") from fault
        raise
    except BaseException:
        driver.execute("ROLLBACK")
        raise


def migrate(home: Path, config: Config | None, section: StoreSection | None) -> str:
    """Bring a store to the newest schema; return what was migrated. Nobody may serve a file meanwhile."""
    if section is not None and section.url:
        address = address_of(section, home, development=False if config is None else config.development)
        with owner_of(address) as conn:
            checks.check_server(conn, development=config is not None and config.development)
            migrate_postgres(conn)
        return address.shown
    if config is None:
        raise Malformed("there is nothing to migrate", "name a home, or a database with --store")
    if config.store.url:
        raise Malformed(
            f"the home's database is {config.store.url}, and the servers' user may not change its schema",
            "name it with --store and the owner's account",
        )
    path = home / config.database
    file.migrate(path)
    return str(path)

"""A home whose store is a database server that other nodes use as well: opened, made and migrated.

Imported where there is one, for its driver takes a tenth of a second to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from keyclave.app.config import Config, StoreSection
from keyclave.core.errors import Broken, Malformed
from keyclave.crypto.module import CryptoModule
from keyclave.store import meta_rows, versions
from keyclave.store.pg import checks, faults
from keyclave.store.pg.address import Address, own_password_file, read_address
from keyclave.store.pg.connections import READERS, driver_of, open_connection, open_engine
from keyclave.store.postgres import PostgresStore

NODE_BYTES = 8  # of a node's name: drawn anew at each start, and never the same twice
_OTHERS = 5  # connections of a process that are not for reading: writer, loop, follower, barrier, sequencer
_LEAST_READERS = 2  # at the start two are asked at once, whether they are sessions of their own
_MAY_CREATE = "SELECT has_schema_privilege(current_user, 'public', 'CREATE')"


def address_of(section: StoreSection, home: Path, *, development: bool) -> Address:
    """Return the checked address of a home's database."""
    return read_address(section.url, development=development, password_file=own_password_file(home, section.password_file))


def readers_of(config: Config) -> int:
    """Return how many reading connections one process may hold: all workers together hold what is configured, and no more."""
    if not config.store.connections:
        return READERS
    workers = config.listen.workers
    readers = config.store.connections // workers - _OTHERS
    if readers < _LEAST_READERS:
        least = workers * (_OTHERS + _LEAST_READERS)
        raise Malformed(
            f"{config.store.connections} connections to the database are too few for {workers} workers, which need {least}",
            "raise store.connections in keyclave.toml, or serve with fewer workers",
        )
    return readers


def open_database(config: Config, home: Path, module: CryptoModule, loop: asyncio.AbstractEventLoop | None) -> PostgresStore:
    """Open the database that the configuration names, as a new node."""
    return PostgresStore(
        address_of(config.store, home, development=config.development),
        module.random(NODE_BYTES).hex(),
        loop=loop,
        development=config.development,
        cluster=config.store.cluster,
        readers=readers_of(config),
    )


def create_in(
    section: StoreSection, home: Path, module: CryptoModule, sealed: str, *, development: bool
) -> tuple[PostgresStore, str, Callable[[Connection], None]]:
    """Make an empty store in a database; return it, the new installation's name, and what begins the transaction that takes it.

    `sealed` is the setting that every installation has.
    """
    address = address_of(section, home, development=development)
    cluster = module.random(NODE_BYTES).hex()
    with owner_of(address) as conn:
        checks.check_server(conn, development=development)
        if not checks.has_schema(conn):
            if not conn.exec_driver_sql(_MAY_CREATE).scalar_one():
                raise Broken(
                    "the database has no schema, and this user cannot make it",
                    "run `keyclave migrate --store …` with the owner's account first",
                )
            migrate_in(conn)
    store = PostgresStore(address, module.random(NODE_BYTES).hex(), development=development)
    home_node = module.random(4).hex().encode()

    def claim(conn: Connection) -> None:
        if meta_rows.read_meta(conn, sealed) is not None:
            raise Malformed("the database belongs to an installation already", "name an empty one")
        meta_rows.write_meta(conn, versions.CLUSTER, cluster.encode())
        meta_rows.write_meta(conn, "node", home_node)

    return store, cluster, claim


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


def migrate_database(section: StoreSection, home: Path, *, development: bool) -> str:
    """Bring a database to the newest schema, beside nodes of the version before; return its address."""
    address = address_of(section, home, development=development)
    with owner_of(address) as conn:
        checks.check_server(conn, development=development)
        migrate_in(conn)
    return address.shown


def migrate_in(conn: Connection) -> None:
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

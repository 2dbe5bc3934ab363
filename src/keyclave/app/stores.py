"""Which store a home has: a file of its own, or a database server that other nodes use as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import Connection

from keyclave.app.alone import alone
from keyclave.app.config import Config, StoreSection
from keyclave.core.errors import Malformed
from keyclave.crypto.module import CryptoModule
from keyclave.store.embedded import file
from keyclave.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from keyclave.store.postgres import PostgresStore

AnyStore: TypeAlias = "SqliteStore | PostgresStore"
ROOT_SEALED = "root.sealed"


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
    from keyclave.app.database import open_database

    return open_database(config, home, module, loop)


def create_store(path: Path, section: StoreSection | None, home: Path, module: CryptoModule, *, development: bool) -> New:
    """Make an empty store for a new home."""
    if section is None or not section.url:
        file.create(path, module.random(4).hex())
        return New(SqliteStore(path), "", lambda conn: None)
    from keyclave.app.database import create_in

    return New(*create_in(section, home, module, ROOT_SEALED, development=development))


def migrate(home: Path, config: Config | None, section: StoreSection | None) -> str:
    """Bring a store to the newest schema; return what was migrated. Nobody may serve a file meanwhile."""
    if section is not None and section.url:
        from keyclave.app.database import migrate_database

        return migrate_database(section, home, development=config is not None and config.development)
    if config is None:
        raise Malformed("there is nothing to migrate", "name a home, or a database with --store")
    if config.store.url:
        raise Malformed(
            f"the home's database is {config.store.url}, and the servers' user may not change its schema",
            "name it with --store and the owner's account",
        )
    path = home / config.database
    with alone(home):
        file.migrate(path)
    return str(path)

"""Where implementations are chosen and handed to those who know only their interfaces."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import msgspec

from keyclave.app.config import Config
from keyclave.app.newest import check_newest, read_newest
from keyclave.app.oidc_config import sign_on_houses
from keyclave.app.people_config import people_room
from keyclave.app.stores import ROOT_SEALED, AnyStore, open_store
from keyclave.app.workload_config import workload_settings
from keyclave.audit.event import decode
from keyclave.audit.note import parse_vkey
from keyclave.core.clock import MICROSECONDS, SystemClock
from keyclave.core.errors import Broken, Malformed, Unavailable
from keyclave.crypto.arena import slot_from
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.pyca import PycaModule
from keyclave.operations.approvals.room import Approvals
from keyclave.operations.desk import Desk
from keyclave.operations.invalidation import apply_changes
from keyclave.operations.keyring import Keyring
from keyclave.operations.log import Log
from keyclave.operations.revisions import Revisions
from keyclave.operations.table import OPERATIONS
from keyclave.operations.unseal import LOG_VKEYS, open_house
from keyclave.operations.vault import Vault
from keyclave.roots.software import SoftwareRoot
from keyclave.store import meta_rows
from keyclave.store.access import sessions
from keyclave.store.changes import forget_changes
from keyclave.store.interface import Store
from keyclave.store.moments import is_untidy, tidy_moments
from keyclave.store.nodes import database_time

logger = logging.getLogger("keyclave")

DEVELOPMENT_ROOT = "root.development"
CLOCK_MARK = "clock.mark"
_RECENT = 1024  # events: a slow attempt is dated at its beginning
ROOT_CHECK = "root.check"
ROOT_SET = "root.set"
ROOT_THRESHOLD = "root.threshold"
_DIGITS = 3  # of a threshold


def new_module() -> CryptoModule:
    """Return the cryptographic module, self-tested."""
    module = PycaModule()
    module.self_test()
    return module


def build(
    config: Config,
    home: Path,
    *,
    workers: Executor,
    loop: asyncio.AbstractEventLoop | None = None,
    shared: bool = False,
    first: bool = True,
) -> tuple[Desk, AnyStore]:
    """Wire a desk over the home's database. Without a `loop` to run on the caller flushes.

    `shared` says that other processes serve the same home; `first`, that none did before: then a development root opens itself.
    """
    module = new_module()
    seen = read_newest(home)
    store = open_store(config, home, module, loop=loop, shared=shared)
    clock = SystemClock(_latest_time(store, config.nodes.skew_seconds))
    vault = read_vault(store, module, clock, development=config.development)
    log = Log(store, clock, config.log.origin, _vkeys(store))
    check_newest(home, seen, log)
    store.followed_by(log.take, log.size)
    desk = Desk(
        store=store,
        module=module,
        vault=vault,
        log=log,
        clock=clock,
        keyring=Keyring(store, module, config.policy.message_limit),
        plain_context=frozenset(config.policy.plain_context),
        workers=workers,
        on_loop=loop.call_soon_threadsafe if loop else lambda fn, *args: fn(*args),
        development=config.development,
        destruction_days=config.policy.destruction_days,
        revisions=Revisions(store, OPERATIONS),
        workloads=workload_settings(config, home, store),
        people=people_room(config.people, config.listen, home, store, module, clock),
        approvals=Approvals(OPERATIONS),
    )
    store.applied_by(partial(apply_changes, desk))
    own = desk.people.relying.origins[0]
    desk.people.houses = sign_on_houses(config.oidc, own, home, module, clock, development=config.development)
    if config.development and first:
        _open_development_root(desk, home)
    return desk, store


def _latest_time(store: AnyStore, skew_seconds: float) -> int:
    """Return the latest time this home is known to have seen: the clock never shows an earlier one.

    So an expiry cannot be put off by starting the server with a clock that was set back. But where a database's clock agrees with
    this machine's, what the home has seen beyond both was a clock that was wrong, and binds nobody any more.
    """
    recent = store.read_entries(max(0, store.placed() - _RECENT), _RECENT)
    mark = store.read(lambda conn: meta_rows.read_meta(conn, CLOCK_MARK))
    try:
        latest = max([decode(entry).at for entry in recent] + [int(mark or 0)], default=0)
    except (msgspec.DecodeError, ValueError):
        raise Broken(
            "the database holds an event, or a time, that this program did not write",
            "stop, keep the database as evidence, and restore a backup",
        ) from None
    here = time.time_ns() // 1000
    if store.sequenced and latest > here:
        there = store.read(database_time)
        if abs(there - here) <= skew_seconds * MICROSECONDS and latest > max(here, there):
            logger.warning(
                "the record shows times %.0f s ahead of this machine's clock and the database's", (latest - here) / MICROSECONDS
            )
            return max(here, there)
    return latest


def mark_time(store: AnyStore, now: int) -> None:
    """Keep how late it is, for a server that has been idle."""
    store.write(lambda conn: meta_rows.write_meta(conn, CLOCK_MARK, str(now).encode()))


def keep_seen(store: AnyStore, desk: Desk) -> None:
    """Keep when sessions were last used."""
    seen = desk.callers.take_seen()
    if not seen:
        return
    try:
        store.write(lambda conn: sessions.keep_seen(conn, seen))
    except Unavailable:
        desk.callers.put_back(seen)
        raise


def keep_tidy(store: AnyStore, now: int) -> None:
    """Let go of what was begun and is over."""
    if store.shared and not store.sequenced:  # there the sequencer does it
        store.write(lambda conn: forget_changes(conn, now))
    if store.read(lambda conn: is_untidy(conn, now)):
        store.write(lambda conn: tidy_moments(conn, now))


def _vkeys(store: AnyStore) -> list[str]:
    kept = store.read(lambda conn: meta_rows.read_meta(conn, LOG_VKEYS))
    if kept is None:
        raise Broken("the database has no log keys", "the ceremony was cut short: run `keyclave init` in another home")
    try:
        vkeys = msgspec.json.decode(kept, type=list[str])
        for vkey in vkeys:
            parse_vkey(vkey)
    except (msgspec.DecodeError, Malformed):
        raise Broken("the database's log keys cannot be read", "keep the database as evidence, and restore a backup") from None
    return vkeys


def read_vault(store: Store, module: CryptoModule, clock: SystemClock, *, development: bool) -> Vault:
    """Return the sealed vault of a store's root."""
    names = (ROOT_SEALED, ROOT_CHECK, ROOT_SET, ROOT_THRESHOLD)
    sealed, check, set_id, threshold = store.read(lambda conn: tuple(meta_rows.read_meta(conn, name) for name in names))
    if sealed is None or check is None or set_id is None or threshold is None:
        raise Broken("the database has no root", "the ceremony was cut short: run `keyclave init` in another home")
    if not (threshold.isdigit() and len(threshold) <= _DIGITS and check.isascii()):
        raise Broken("what the database says of its root cannot be read", "keep the database as evidence, and restore a backup")
    root = SoftwareRoot(module, development=development)
    return Vault(root, module, clock, sealed, check.decode(), set_id, int(threshold))


def _open_development_root(desk: Desk, home: Path) -> None:
    path = home / DEVELOPMENT_ROOT
    if not path.exists():
        return
    logger.warning("DEVELOPMENT ROOT: the recovery key lies in %s; never keep real patient data under it", path)
    with slot_from(bytearray(path.read_bytes())) as recovery:
        desk.vault.open_with(recovery)
    open_house(desk)

"""Proof that what was moved is what was there: the log hashed anew against tiles and checkpoint, each key version opened."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from keyclave.app import wiring
from keyclave.audit.tree import Tree
from keyclave.core.clock import SystemClock
from keyclave.core.errors import Broken, KeyclaveError
from keyclave.crypto.arena import slot_from
from keyclave.crypto.digest import leaf_hashes
from keyclave.crypto.module import CryptoModule
from keyclave.operations.keyring import Keyring
from keyclave.operations.vault import Vault
from keyclave.store import key_rows, log_rows, places
from keyclave.store.interface import Store

T = TypeVar("T")
_KEEP = "keep the old store as it is, and compare it with a backup"
_CHUNK = 4096  # entries hashed at a time


class _Reading:
    """A connection, for those who only read from a store."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` inside the transaction at hand."""
        return fn(self._conn)


def hash_log(conn: Connection) -> tuple[int, bytes]:
    """Hash the whole log anew; full tiles that are kept must agree, and those that are missing are kept. Return end and root."""
    tree = Tree()
    while entries := places.read_log(conn, tree.size, _CHUNK):
        for tile in tree.append_many(leaf_hashes(entries)):
            kept = log_rows.read_tile(conn, tile.level, tile.index)
            if kept is None:
                log_rows.keep_tiles(conn, {(tile.level, tile.index): tile.data})
            elif kept != tile.data:
                raise Broken(f"tile {tile.index} of level {tile.level} is not that of the log", "verify an export of the record")
    if tree.size != places.head(conn):
        raise Broken(f"the log should reach {places.head(conn)} and ends at {tree.size}", "verify an export of the record")
    return tree.size, tree.root()


def check_log(source: Connection, target: Connection, placed: int, end: int, root: bytes) -> None:
    """See that the target's log is as long as the source's, and that the source's last checkpoint is about that log."""
    if places.head(source) + placed != end:
        raise Broken("the two logs have different lengths", "run the move again; nothing has changed")
    signed = log_rows.last_checkpoint(target)
    if signed is None:
        return
    tree = Tree()
    while tree.size < signed[0]:
        entries = places.read_log(source, tree.size, min(_CHUNK, signed[0] - tree.size))
        if not entries:
            raise Broken("the log ends before its last checkpoint: its tail is gone", "verify an export of the record")
        tree.append_many(leaf_hashes(entries))
    if tree.root() != signed[1]:
        raise Broken("the log is not the one that was signed", "verify an export of the record")


def open_keys(conn: Connection, home: Path, module: CryptoModule, shares: list[str], *, development: bool) -> int:
    """Open every key version under the root and compare its check value; return how many."""
    store: Store = _Reading(conn)  # type: ignore[assignment]
    vault = wiring.read_vault(store, module, SystemClock(), development=development)
    _open_root(vault, home, shares, development=development)
    keyring = Keyring(store, module, 1)
    try:
        keyring.unseal(vault.root)
        opened = 0
        for key, materials in key_rows.every_key(conn):
            for version in key.versions:
                material = materials.get(version.number)
                if material is None:
                    continue  # destroyed: there is nothing to open
                try:
                    with keyring.open(key, material) as slot:
                        check = module.key_check(slot)
                except KeyclaveError as fault:
                    raise Broken(f"version {version.number} of {key.id} does not open", _KEEP) from fault
                if check != version.kcv:
                    raise Broken(f"version {version.number} of {key.id} has another check value", _KEEP)
                opened += 1
        return opened
    finally:
        keyring.seal()
        vault.seal()


def _open_root(vault: Vault, home: Path, shares: list[str], *, development: bool) -> None:
    if development and (home / wiring.DEVELOPMENT_ROOT).exists():
        with slot_from(bytearray((home / wiring.DEVELOPMENT_ROOT).read_bytes())) as recovery:
            vault.open_with(recovery)
        return
    given = iter(shares)
    while vault.sealed:
        share = next(given, None) or getpass.getpass(f"Share {vault.received + 1} of {vault.threshold}: ")
        vault.offer(share.strip())

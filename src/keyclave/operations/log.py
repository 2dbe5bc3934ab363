"""The log as it lives: leaves into the tree, the tree's root into signed checkpoints, tiles and proofs out of both.

    store -> take -> Tree            after every commit, and at start-up from the rows that no stored tile covers
    tick (each second) -> sign -> store -> published

A checkpoint is kept before it is shown, in a commit that makes durable whatever lies before it, and is never smaller than one
that was kept. Signing needs the log's seed, which the root protects: while the server is sealed the tree grows and nothing is
signed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from keyclave.audit.checkpoint import sign_checkpoint
from keyclave.audit.event import decode
from keyclave.audit.event_ids import parse_event_id
from keyclave.audit.note import Signer
from keyclave.audit.proofs import prove_consistency, prove_inclusion, tree_root
from keyclave.audit.receipt import encode_receipt
from keyclave.audit.tiles import HASH, WIDTH, encode_bundle, tile_width
from keyclave.audit.tree import Tree
from keyclave.core.clock import MICROSECONDS, Clock
from keyclave.core.errors import Broken, Sealed, Unavailable, Unknown
from keyclave.crypto.digest import leaf_hashes
from keyclave.operations.stored_log import (
    check_note,
    check_signed,
    check_stated,
    check_tiles,
    first_to_grow,
    missing,
    read_tile,
    rebuilt,
)

logger = logging.getLogger("keyclave.log")

Follow = Callable[[int, Sequence[bytes]], None]
_PATIENCE = 3.0  # seconds without a new checkpoint from the process that signs: then any other does
_CHUNK = 4096  # entries hashed at a time at start-up


class LogStore(Protocol):
    """What the log asks of a store."""

    shared: bool  # whether other processes write to the same log
    sequenced: bool  # whether one of them gives all entries their places, and keeps the full tiles
    waiting_tiles: dict[tuple[int, int], bytes]  # full tiles, by level and number, on their way into the next commit

    def read_entries(self, first: int, count: int) -> Sequence[bytes]: ...

    def find_place(self, node: str, number: int) -> int | None: ...

    def placed(self) -> int: ...

    def catch_up(self) -> None: ...

    def read_tile(self, level: int, number: int) -> bytes | None: ...

    def last_tile(self, level: int = 0) -> int: ...

    def keep_checkpoint(self, size: int, root: bytes, note: str, at: int) -> None: ...

    def last_checkpoint(self, size: int | None = None) -> tuple[int, bytes, str] | None: ...

    def last_signed_at(self) -> int: ...

    def checkpoint_sizes(self, after: int, limit: int) -> list[int]: ...


class Receipt:
    """A leaf, its place, and the proof that it is in the log."""

    __slots__ = ("index", "leaf", "proof")

    def __init__(self, index: int, leaf: bytes, proof: str) -> None:
        self.index = index
        self.leaf = leaf
        self.proof = proof


class Log:
    """One log: its origin names it in every checkpoint."""

    def __init__(self, store: LogStore, clock: Clock, origin: str, vkeys: list[str]) -> None:
        self.origin = origin
        self.vkeys = vkeys  # what verifies it
        self._store = store
        self._clock = clock
        self._signer: Signer | None = None
        self._unsure = False  # whether a failed commit left open if a checkpoint was kept
        self.skip: Callable[[Follow, int], None] | None = None  # of one that another process follows for: where to go on
        self._signed_at = time.monotonic()  # when a new checkpoint was seen
        self.checkpoint = store.last_checkpoint()
        end = store.placed()
        begin = first_to_grow(store.last_tile, end, 0 if self.checkpoint is None else self.checkpoint[0])
        self._tree = Tree.restore(begin, self._rebuilt)
        self._catch_up(end)
        for place in check_tiles(store.waiting_tiles, store.read_tile):
            del store.waiting_tiles[place]
        if self.checkpoint is not None:
            check_note(self.checkpoint, origin, vkeys)
            check_signed(self.checkpoint[0], self.checkpoint[1], self._tree, self._stored, store.waiting_tiles)

    def _rebuilt(self, level: int, index: int, width: int) -> bytes:
        return rebuilt(self._stored, level, index, width)

    def _stored(self, level: int, index: int) -> bytes:
        tile = self._store.read_tile(level, index)
        if tile is None:
            raise Broken(f"tile {index} of level {level} is missing", "stop, keep the database as evidence, and restore a backup")
        return tile

    def _catch_up(self, end: int) -> None:
        while self._tree.size < end:
            entries = self._store.read_entries(self._tree.size, min(_CHUNK, end - self._tree.size))
            if not entries:
                raise missing(self._tree.size, end)
            self.take(self._tree.size, entries)

    # ---- growing ------------------------------------------------------------------------------------------------------
    @property
    def size(self) -> int:
        """How many events are in the tree as it was grown here: the others may have placed more."""
        return self._tree.size

    def placed(self) -> int:
        """Return how many events have a place in the log, from any thread; while the database is away, how many are known to."""
        if not self._store.shared:
            return self._tree.size
        try:
            return self._store.placed()
        except Unavailable:
            return self._tree.size

    def take(self, first: int, entries: Sequence[bytes]) -> None:
        """Take entries that are committed, in order; their disk may still be busy."""
        if first != self._tree.size:
            raise Broken(f"the log is at {self._tree.size} and was given entry {first}", "restart the server")
        for tile in self._tree.append_many(leaf_hashes(entries)):
            self._store.waiting_tiles[tile.level, tile.index] = tile.data

    def tick(self) -> None:
        """Sign and keep a checkpoint, if there is something new and the seed is here."""
        if self._unsure:
            self._look_again()
        size = self._tree.size
        if self._signer is None or size == 0 or (self.checkpoint is not None and self.checkpoint[0] == size):
            return
        if self._store.shared:
            self._look_again()  # another process may have signed as much, or more
            if self.checkpoint is not None and self.checkpoint[0] >= size:
                return
        now = max(self._clock.now(), self._newest_date(size)) if self._store.sequenced else self._clock.now()
        root = self._tree.root()
        note = sign_checkpoint(self.origin, size, root, self._signer, now // MICROSECONDS)
        self._unsure = True
        self._store.keep_checkpoint(size, root, note, now)
        self._unsure = False
        if self._store.shared:
            self._look_again()
        else:
            self.checkpoint = (size, root, note)

    def _newest_date(self, size: int) -> int:
        """Return the newest date of what a checkpoint of that size covers: a node whose clock is ahead of this one's gave it.

        Where several nodes write, the sequencer knows it (`nodes.sequencer`). This is for one that seals, or is asked for the
        receipt of an event that is not signed yet.
        """
        newest = self._store.last_signed_at()
        signed = 0 if self.checkpoint is None else self.checkpoint[0]
        for first in range(signed, size, _CHUNK):
            entries = self._store.read_entries(first, min(_CHUNK, size - first))
            newest = max([newest, *(decode(entry).at for entry in entries)])
        return newest

    def sign(self, size: int, root: bytes, at: int) -> str | None:
        """Return the checkpoint of a tree that another hand has grown, or None while the keys for it are away. Only on the loop.

        `at` is its date, in microseconds. It is never smaller than the newest one known here: two roots of one size are never
        signed.
        """
        if self._signer is None or (self.checkpoint is not None and size <= self.checkpoint[0]):
            return None
        return sign_checkpoint(self.origin, size, root, self._signer, at // MICROSECONDS)

    def refresh(self) -> None:
        """Take in what other processes have kept and signed. Only on the loop."""
        if self._store.sequenced:
            self._leap()
        elif self._store.shared:
            if self.skip is not None:
                self._skip(self.skip)
            self._store.catch_up()
        if self._store.shared:
            self._look_again()

    def _leap(self) -> None:
        """Take up the log where its full tiles end, instead of hashing what the sequencer has hashed already."""
        end = self._store.placed()
        tiles = self._store.last_tile()
        if end >= tiles * WIDTH > self._tree.size:
            self._tree = Tree.restore(tiles * WIDTH, self._rebuilt)
        self._catch_up(end)

    def _skip(self, go_on: Callable[[Follow, int], None]) -> None:
        """Begin anew at the last tile that another process kept: what lies before it need not be read, as at start-up."""
        kept = self._store.last_tile() * WIDTH
        if kept > self._tree.size:
            self._tree = Tree.restore(kept, self._rebuilt)
            go_on(self.take, kept)

    def keep_signed(self) -> None:
        """What goes by the clock: sign what is new, or see that another process does."""
        self.refresh()
        if self.skip is None or time.monotonic() - self._signed_at > _PATIENCE:
            self.tick()

    def _look_again(self) -> None:
        """Find out whether the checkpoint whose commit failed was kept all the same."""
        kept = self._store.last_checkpoint()
        if kept is not None and (self.checkpoint is None or kept[0] > self.checkpoint[0]):
            self.checkpoint = kept
            self._signed_at = time.monotonic()
        self._unsure = False

    def unseal(self, signer: Signer) -> None:
        """Take the signing keys."""
        self._signer = signer

    def seal(self) -> None:
        """Sign a last checkpoint and let go of the keys."""
        try:
            self.refresh()
            self.tick()
        except Unavailable as fault:
            logger.warning("sealed without a last checkpoint: %s", fault.detail)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Let go of the signing keys at once."""
        self._signer = None

    def complain(self, fault: BaseException) -> None:
        """Write an unexpected fault to the process's own log."""
        logger.error("an operation failed", exc_info=fault)

    # ---- reading ------------------------------------------------------------------------------------------------------
    def published(self, size: int | None = None) -> str:
        """Return the newest checkpoint, or the kept one of that size."""
        found = self.checkpoint
        if size is not None:
            found = self._store.last_checkpoint(size) if size <= self.size else None
            if found is not None:
                check_stated(found)
        if found is None:
            raise Unknown("no such checkpoint", "ask for the newest")
        return found[2]

    def sizes(self, after: int, limit: int) -> list[int]:
        """Return the sizes of kept checkpoints above `after`."""
        return self._store.checkpoint_sizes(after, limit)

    def tile(self, level: int | None, index: int, width: int) -> bytes:
        """Return a tile of hashes (or, level None, a bundle of entries) of a published tree."""
        size = self.checkpoint[0] if self.checkpoint else 0
        if tile_width(level or 0, index, size) < width:
            raise Unknown("no such tile yet", "fetch the checkpoint first and ask for tiles of its size")
        if level is None:
            return encode_bundle(self._store.read_entries(index * WIDTH, width))
        return self._read(level, index, width)

    def root_at(self, size: int) -> bytes:
        """Return the root of the tree as it was at `size`."""
        return tree_root(size, self._read)

    def _read(self, level: int, index: int, width: int) -> bytes:
        return read_tile(self._tree, self._stored, self._store.waiting_tiles, level, index)[: width * HASH]

    def receipt(self, event: str) -> Receipt:
        """Return the receipt of an event: its exact leaf and a C2SP tlog-proof against the newest checkpoint."""
        named = parse_event_id(event)
        index = None if named is None else self._store.find_place(*named)
        if index is None or index >= self.size:
            raise Unknown("no such event", "an event has its number once the operation has been answered")
        if self.checkpoint is None or self.checkpoint[0] <= index:
            self.tick()
        if self.checkpoint is None or self.checkpoint[0] <= index:
            raise Sealed
        size, _, note = self.checkpoint
        leaf = self._store.read_entries(index, 1)[0]
        return Receipt(index, leaf, encode_receipt(index, prove_inclusion(index, size, self._read), note))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of `old` leaves is the beginning of that of `new`."""
        if new > self.size:
            raise Unknown("the log is not that long", f"it has {self.size} entries")
        return prove_consistency(old, new, self._read)

    def entries(self, first: int, count: int) -> Sequence[bytes]:
        """Return encoded events."""
        return self._store.read_entries(first, count)

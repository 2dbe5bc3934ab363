"""The log as it is found at a start: what its rows say of themselves and of each other is believed only where it agrees.

Checkpoints are signed; rows are not. So the tree is grown from the events themselves wherever no signature covers them yet, kept
tiles have to be those that grow, and what is kept may not reach beyond the last event. What a signed root covers is left to
whoever verifies the whole: the start may not take longer for a longer log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from keyclave.audit.checkpoint import parse_checkpoint, verify_checkpoint
from keyclave.audit.note import parse_vkey
from keyclave.audit.proofs import tree_root
from keyclave.audit.tiles import HASH, WIDTH
from keyclave.audit.tree import Tree, full_root
from keyclave.core.errors import Broken, InvalidSignature, Malformed
from keyclave.crypto.log_keys import LogVerifier

Tiles = Mapping[tuple[int, int], bytes]  # full ones, by level and number
Checkpoint = tuple[int, bytes, str]  # size, root, note

_GROWN_AGAIN = 64  # tiles without a signature that are compared with their events: 16,384 events, a few hundredths of a second
_LEVELS = 8  # that a log of 2^63 events fills
_NONE: Tiles = MappingProxyType({})
_KEEP = "stop, keep the database as evidence, and restore a backup"


def first_to_grow(last_tile: Callable[[int], int], end: int, signed: int) -> int:
    """Return from which leaf on the tree of a log of `end` events is grown from its events: a multiple of a tile.

    `last_tile` tells how many full tiles of a level are kept, `signed` how many events the newest checkpoint covers.
    Tiles of more events than there are would have the server sign what nobody did: `Broken`.
    """
    if signed > end:
        raise _tail_gone(end, signed)
    for level in range(_LEVELS):
        if last_tile(level) > end >> (8 * (level + 1)):
            raise Broken(f"the database keeps hashes of more events than the {end} that it holds", _KEEP)
    kept = last_tile(0)
    return max(min(kept, signed // WIDTH), kept - _GROWN_AGAIN) * WIDTH


def missing(size: int, end: int) -> Broken:
    """Return what is said of a log that ends before the place where it says to end."""
    return Broken(f"the stored log should reach {end} events and ends at {size}", _KEEP)


def check_tiles(grown: Tiles, read_tile: Callable[[int, int], bytes | None]) -> list[tuple[int, int]]:
    """Refuse kept tiles that are not those that have grown from the events; return which ones are kept."""
    kept = []
    for place, hashes in grown.items():
        found = read_tile(*place)
        if found is not None and found != hashes:
            raise Broken(f"tile {place[1]} of level {place[0]} does not hold the hashes of its events", _KEEP)
        if found is not None:
            kept.append(place)
    return kept


def check_signed(size: int, root: bytes, tree: Tree, stored: Callable[[int, int], bytes], waiting: Tiles = _NONE) -> None:
    """Refuse to go on with a log that is not the one that was signed, at `size`, with `root`."""
    if size > tree.size:
        raise _tail_gone(tree.size, size)

    def read(level: int, index: int, width: int) -> bytes:
        return read_tile(tree, stored, waiting, level, index)[: width * HASH]

    if size < 1 or tree_root(size, read) != root:
        raise Broken("the stored log is not the one that was signed", "stop, keep the database as evidence, and verify an export")


def check_note(checkpoint: Checkpoint, origin: str, vkeys: Sequence[str]) -> None:
    """Refuse a kept checkpoint that the log's keys did not sign, or that states something else than its row."""
    size, root, note = checkpoint
    try:
        read = verify_checkpoint(note, [parse_vkey(key) for key in vkeys], LogVerifier())
    except (InvalidSignature, Malformed):
        raise _no_note(size) from None
    if (read.origin, read.size, read.root) != (origin, size, root):
        raise _no_note(size)


def check_stated(checkpoint: Checkpoint) -> None:
    """Refuse to publish an older checkpoint whose note states something else than its row."""
    size, root, note = checkpoint
    try:
        read = parse_checkpoint(note)
    except Malformed:
        raise _no_note(size) from None
    if (read.size, read.root) != (size, root):
        raise _no_note(size)


def _tail_gone(end: int, signed: int) -> Broken:
    return Broken(f"the stored log ends at {end}, though a checkpoint of {signed} events was signed: its tail is gone", _KEEP)


def _no_note(size: int) -> Broken:
    return Broken(f"the kept checkpoint of {size} events is not the one that was signed", _KEEP)


def read_tile(tree: Tree, stored: Callable[[int, int], bytes], waiting: Tiles, level: int, index: int) -> bytes:
    """Return a tile as it stands: one that waits to be kept, one that is not full yet, or a kept one."""
    full = waiting.get((level, index))
    if full is not None:
        return full
    for tile in tree.partial_tiles():
        if (tile.level, tile.index) == (level, index):
            return tile.data
    return stored(level, index)


def rebuilt(stored: Callable[[int, int], bytes], level: int, index: int, width: int) -> bytes:
    """Return the beginning of a partial tile above level 0 from the full tiles below it: partial tiles are not stored."""
    first = index * WIDTH
    return b"".join([full_root(stored(level - 1, child)) for child in range(first, first + width)])

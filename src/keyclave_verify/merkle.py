"""The hashes of the log: leaves, inner nodes, roots from tiles, and both kinds of proof (RFC 6962 section 2.1).

A tile is 256 hashes of 32 bytes; its level above holds the roots of full tiles only (C2SP tlog-tiles).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

HASH = 32
WIDTH = 256
HEIGHT = 8  # a tile spans eight levels of the binary tree
EMPTY_ROOT = sha256(b"").digest()

ReadTile = Callable[[int, int, int], bytes]  # (level, index, width) -> width hashes


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a log entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: bytes) -> bytes:
    """Return the root over hashes that lie end to end, a power of two of them."""
    while len(hashes) > HASH:
        hashes = b"".join([sha256(b"\x01" + hashes[i : i + 64]).digest() for i in range(0, len(hashes), 64)])
    return hashes


def _perfect_parts(hashes: bytes) -> Iterator[bytes]:
    """Cut hashes into the perfect subtrees that a tree of that many leaves has, from the left."""
    start, left = 0, len(hashes) // HASH
    while left:
        count = 1 << (left.bit_length() - 1)
        yield hashes[start : start + count * HASH]
        start, left = start + count * HASH, left - count


def root_at(size: int, read_tile: ReadTile) -> bytes:
    """Return the root of the first `size` leaves, from the partial tile that a tree of this size has at each level."""
    root = None
    level = 0
    while hashes := size >> (HEIGHT * level):
        index, width = divmod(hashes, WIDTH)
        if width:
            for part in reversed(list(_perfect_parts(read_tile(level, index, width)))):
                left = perfect_root(part)
                root = left if root is None else node_hash(left, root)
        level += 1
    return EMPTY_ROOT if root is None else root


def _span(start: int, end: int, size: int, read_tile: ReadTile) -> bytes:
    """Return the root over leaves `start` to `end`, `start` a multiple of a power of two not smaller than their count."""
    root = None
    parts = []
    while start < end:
        height = (end - start).bit_length() - 1
        level, above = divmod(height, HEIGHT)
        index, offset = divmod(start >> (HEIGHT * level), WIDTH)
        tile = read_tile(level, index, min(WIDTH, (size >> (HEIGHT * level)) - index * WIDTH))
        parts.append(perfect_root(tile[offset * HASH : (offset + (1 << above)) * HASH]))
        start += 1 << height
    for part in reversed(parts):
        root = part if root is None else node_hash(part, root)
    return EMPTY_ROOT if root is None else root


def consistency_proof(old: int, new: int, read_tile: ReadTile) -> list[bytes]:
    """Return the proof that the first `old` of `new` leaves are the old tree (RFC 6962 section 2.1.2); 0 < old ≤ new."""
    proof = []
    start, end = 0, new
    while old != end:
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        if old <= middle:
            proof.append(_span(middle, end, new, read_tile))
            end = middle
        else:
            proof.append(_span(start, middle, new, read_tile))
            start = middle
    if start:
        proof.append(_span(start, end, new, read_tile))
    return proof[::-1]


def inclusion_holds(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether `proof` leads from the leaf hash at `index` to the root of `size` leaves (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for node in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(node, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, node)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def consistency_holds(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether `proof` shows the old tree to be the beginning of the new one (RFC 9162 section 2.1.4.2)."""
    if old == 0:
        return not proof and old_root == EMPTY_ROOT and (new > 0 or new_root == EMPTY_ROOT)
    if old >= new:
        return old == new and not proof and old_root == new_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    was = now = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            was, now = node_hash(node, was), node_hash(node, now)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            now = node_hash(now, node)
        place, last = place >> 1, last >> 1
    return last == 0 and was == old_root and now == new_root

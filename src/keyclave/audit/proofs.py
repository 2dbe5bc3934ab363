"""Inclusion and consistency proofs (RFC 6962 sections 2.1.1 and 2.1.2), made from tiles and checked by roots alone.

Making a proof reads at most one tile per level and path, by the caller's `read_tile(level, index, width)`; only tiles of the
tree of the size asked for are read. Checking follows RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyclave.audit.tiles import HASH, HEIGHT, WIDTH, tile_width
from keyclave.audit.tree import EMPTY_ROOT, ReadTile
from keyclave.core.errors import Broken, Malformed
from keyclave.crypto.digest import node_hash


class _Nodes:
    """Hashes of the tree of `size` leaves, read from tiles; each tile is read once."""

    def __init__(self, size: int, read_tile: ReadTile) -> None:
        self._size = size
        self._read = read_tile
        self._tiles: dict[tuple[int, int], bytes] = {}

    def _tile(self, level: int, index: int) -> bytes:
        tile = self._tiles.get((level, index))
        if tile is None:
            width = tile_width(level, index, self._size)
            tile = self._read(level, index, width)
            if len(tile) != width * HASH:
                raise Broken(f"tile {index} of level {level} is {len(tile)} bytes, not {width * HASH}", "verify the log")
            self._tiles[level, index] = tile
        return tile

    def perfect(self, start: int, height: int) -> bytes:
        """Return the root over the 2^height leaves from `start`, a multiple of 2^height."""
        level, above = divmod(height, HEIGHT)
        index, offset = divmod(start >> (HEIGHT * level), WIDTH)
        data = self._tile(level, index)
        nodes = [data[at : at + HASH] for at in range(offset * HASH, (offset + (1 << above)) * HASH, HASH)]
        while len(nodes) > 1:
            nodes = [node_hash(nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
        return nodes[0]

    def span(self, start: int, end: int) -> bytes:
        """Return the root over leaves `start` to `end`, a subtree as RFC 6962 splits them."""
        edge = []
        while start < end:
            height = (end - start).bit_length() - 1
            edge.append(self.perfect(start, height))
            start += 1 << height
        root = edge.pop()
        while edge:
            root = node_hash(edge.pop(), root)
        return root


def _split(count: int) -> int:
    """Return the largest power of two smaller than `count` (> 1)."""
    return 1 << ((count - 1).bit_length() - 1)


def tree_root(size: int, read_tile: ReadTile) -> bytes:
    """Return the root of the tree as it was at `size` leaves."""
    return _Nodes(size, read_tile).span(0, size) if size else EMPTY_ROOT


def prove_inclusion(index: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """Return the proof that leaf `index` is in the tree of `size` leaves: hashes from the leaf's sibling up.

    `Malformed` when there is no such leaf.
    """
    if not 0 <= index < size:
        raise Malformed(f"a log of {size} entries has no entry {index}", "ask for an index below the size")
    nodes = _Nodes(size, read_tile)
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(nodes.span(middle, end))
            end = middle
        else:
            proof.append(nodes.span(start, middle))
            start = middle
    return proof[::-1]


def prove_consistency(old: int, new: int, read_tile: ReadTile) -> list[bytes]:
    """Return the proof that the tree of `old` leaves is the beginning of the tree of `new` leaves.

    Empty when `old` is 0 or equal to `new`. `Malformed` unless 0 ≤ old ≤ new.
    """
    if not 0 <= old <= new:
        raise Malformed(f"a log of {new} entries has no earlier size {old}", "ask from the smaller size to the larger")
    if old in (0, new):
        return []
    nodes = _Nodes(new, read_tile)
    proof = []
    start, end = 0, new
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(nodes.span(middle, end))
            end = middle
        else:
            proof.append(nodes.span(start, middle))
            start = middle
    if start:  # the old tree is not the left edge of the new one: name the subtree where both paths meet
        proof.append(nodes.span(start, end))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether `proof` shows the leaf hash at `index` of the tree of `size` leaves with `root` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or any(len(node) != HASH for node in proof):
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


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether `proof` shows the old tree to be the beginning of the new one (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old <= new or any(len(node) != HASH for node in proof):
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT and (new > 0 or new_root == EMPTY_ROOT)
    if old == new:
        return not proof and old_root == new_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]  # a power of two: the old root is itself the first node
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

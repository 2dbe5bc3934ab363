"""The Merkle tree of the log, growing to the right (RFC 6962 section 2.1), and the tiles that fall off it as they fill.

What stays in memory does not grow with the log: per level the hashes of its last, partial tile (at most 255). The inner nodes of
a tile are hashed when it is full, and those over partial tiles for each root that is asked for: once a second, for a checkpoint.
Not thread-safe: the log has one writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from keyclave.audit.tiles import HASH, WIDTH, Tile, tree_tiles
from keyclave.core.errors import Broken
from keyclave.crypto.digest import node_hash, sha256

ReadTile = Callable[[int, int, int], bytes]  # (level, index, width) -> exactly width hashes of 32 bytes

EMPTY_ROOT = sha256(b"")


class CompactRange:
    """The right edge of a tree: the roots of its perfect subtrees, left to right, one for each bit set in its size.

    `size` and `edge` are all there is to keep: `CompactRange(size, edge)` goes on where another stopped.
    """

    __slots__ = ("edge", "size")

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        if len(edge) != size.bit_count() or any(len(node) != HASH for node in edge):
            raise Broken(f"a tree of {size} leaves has {size.bit_count()} subtrees of {HASH} bytes on its right edge, not these")
        self.size = size
        self.edge = list(edge)

    def append(self, leaf: bytes) -> None:
        """Take the next leaf hash."""
        edge = self.edge
        full = self.size
        while full & 1:  # a perfect subtree of this height stands to the left: the two become one of the next height
            leaf = node_hash(edge.pop(), leaf)
            full >>= 1
        edge.append(leaf)
        self.size += 1

    def append_many(self, leaves: Iterable[bytes]) -> None:
        """Take leaf hashes in order."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Return the root over all leaves so far: 32 bytes; of no leaves, SHA-256 of nothing."""
        return fold_right(self.edge, None) or EMPTY_ROOT


def fold_right(edge: Sequence[bytes], right: bytes | None) -> bytes | None:
    """Join subtree roots, left to right in `edge`, with what stands to the right of them; None when there is nothing at all."""
    for node in reversed(edge):
        right = node if right is None else node_hash(node, right)
    return right


class _Level:
    """The last, partial tile of one level: its hashes. What stands over them is worked out when it is asked for."""

    __slots__ = ("full", "hashes")

    def __init__(self, full: int = 0) -> None:
        self.full = full  # full tiles to the left of this one
        self.hashes: list[bytes] = []

    def edge(self) -> list[bytes]:
        """Return the roots of the perfect subtrees over the hashes, left to right: at most 254 hashings."""
        edge = CompactRange()
        edge.append_many(self.hashes)
        return edge.edge

    def complete(self, level: int) -> tuple[Tile, bytes]:
        """Return the tile that is full now and its root, and start the next."""
        tile, root = Tile(level, self.full, b"".join(self.hashes)), _root_of(self.hashes)
        self.full += 1
        self.hashes = []
        return tile, root


def full_root(tile: bytes) -> bytes:
    """Return the root of a full tile, as the level above has it. `Broken` for another number of bytes."""
    if len(tile) != WIDTH * HASH:
        raise Broken(f"a full tile is {len(tile)} bytes, not {WIDTH * HASH}", "stop, keep the database as evidence")
    return _root_of([tile[at : at + HASH] for at in range(0, len(tile), HASH)])


def _root_of(row: list[bytes]) -> bytes:
    """Return the root over as many hashes as a full tile has."""
    while len(row) > 1:
        row = list(map(node_hash, row[::2], row[1::2]))
    return row[0]


class Tree:
    """The tree of a log that grows. `append` gives each tile once, when full; `partial_tiles` gives the rest at any time."""

    __slots__ = ("_levels", "size")

    def __init__(self) -> None:
        self.size = 0
        self._levels = [_Level()]

    @classmethod
    def restore(cls, size: int, read_tile: ReadTile) -> Tree:
        """Return the tree of `size` leaves from its stored partial tiles: at most one is read per level.

        `read_tile(level, index, width)` may cut `width` hashes from a wider stored tile. Another number of bytes than that
        is `Broken`. Compare `root()` with the last signed checkpoint afterwards: stored tiles are not trusted by themselves.
        """
        tree = cls()
        tree.size = size
        tree._levels = []
        for level, full, width in tree_tiles(size):
            part = _Level(full)
            data = read_tile(level, full, width) if width else b""
            if len(data) != width * HASH:
                raise Broken(f"tile {full} of level {level} is {len(data)} bytes, not {width * HASH}", "verify the log")
            for at in range(0, len(data), HASH):
                part.hashes.append(data[at : at + HASH])
            tree._levels.append(part)
        if not size:
            tree._levels.append(_Level())
        return tree

    def append(self, leaf: bytes) -> list[Tile]:
        """Take the next leaf hash (32 bytes) and return the tiles it completes: none 255 times out of 256."""
        return self.append_many((leaf,))

    def append_many(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Take leaf hashes in order and return the tiles they complete, in the order in which they fill."""
        tiles: list[Tile] = []
        taken = 0
        while taken < len(leaves):
            hashes = self._levels[0].hashes
            some = leaves[taken : taken + WIDTH - len(hashes)]
            hashes += some
            taken += len(some)
            self.size += len(some)
            if len(hashes) == WIDTH:
                tiles += self._complete()
        return tiles

    def _complete(self) -> list[Tile]:
        tiles = []
        level = 0
        while len(self._levels[level].hashes) == WIDTH:
            tile, root = self._levels[level].complete(level)
            tiles.append(tile)
            level += 1
            if level == len(self._levels):
                self._levels.append(_Level())
            self._levels[level].hashes.append(root)
        return tiles

    def partial_tiles(self) -> list[Tile]:
        """Return the partial tiles as they stand: what must be served for a checkpoint of this size, besides the full tiles."""
        return [Tile(n, part.full, b"".join(part.hashes)) for n, part in enumerate(self._levels) if part.hashes]

    def edge(self) -> list[bytes]:
        """Return the roots of the perfect subtrees, left to right, as `CompactRange` keeps them."""
        return [node for part in reversed(self._levels) for node in part.edge()]

    def root(self) -> bytes:
        """Return the root over all leaves so far: 32 bytes."""
        root = None
        for part in self._levels:
            root = fold_right(part.edge(), root)
        return root or EMPTY_ROOT

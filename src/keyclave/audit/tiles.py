"""Tiles and entry bundles: their paths, widths and bytes (C2SP tlog-tiles v0.1.0).

A full tile is 256 hashes of 32 bytes. Hash *i* of tile *n* at level *l* is the root over the leaves
`(n·256 + i)·256^l` to `(n·256 + i + 1)·256^l`. A bundle holds the entries under one level 0 tile, each behind its length as two
bytes, big-endian. A partial tile of width *w* is the first *w* hashes of the full one, and is never hashed into the level above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from keyclave.core.errors import Malformed, TooLarge
from keyclave.core.limits import ENTRY

HASH = 32  # bytes of a SHA-256 hash
WIDTH = 256  # hashes of a full tile
HEIGHT = 8  # levels of the binary tree that one tile spans
LEVELS = 64  # levels a path may name: 0 to 63
_LONGEST = 64  # characters: more than the path of any tile of 2^63 entries
_INDEX = r"(?:x[0-9]{3}/)*[0-9]{3}"
_PATH = re.compile(rf"tile/(entries|0|[1-9][0-9]?)/({_INDEX})(?:\.p/([1-9][0-9]{{0,2}}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """Hashes ready to be stored: `data` is 32 bytes a hash, 8,192 bytes when the tile is full."""

    level: int
    index: int
    data: bytes

    @property
    def width(self) -> int:
        """Return how many hashes it holds: 1 to 256."""
        return len(self.data) // HASH

    @property
    def path(self) -> str:
        """Return where it is served, under the log's prefix."""
        return tile_path(self.level, self.index, self.width)


@dataclass(frozen=True, slots=True)
class TileName:
    """What a path asks for: a tile of hashes, or (`level` None) a bundle; `width` is 256 unless it ends in `.p/<W>`."""

    level: int | None
    index: int
    width: int


def _format_index(index: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Return e.g. `tile/0/x001/x234/067` or `tile/0/273.p/112`."""
    return f"tile/{level}/{_format_index(index)}" + (f".p/{width}" if width != WIDTH else "")


def bundle_path(index: int, width: int = WIDTH) -> str:
    """Return the path of the entries under level 0 tile `index`, e.g. `tile/entries/000`."""
    return f"tile/entries/{_format_index(index)}" + (f".p/{width}" if width != WIDTH else "")


def parse_path(path: str) -> TileName:
    """Read a path (no leading slash). Only the spelling that `tile_path` and `bundle_path` write is a path: else `Malformed`."""
    match = _PATH.fullmatch(path) if len(path) <= _LONGEST else None
    if match is None:
        raise Malformed("this is not the path of a tile", "ask for tile/<level>/<index> as C2SP tlog-tiles spells them")
    level = None if match[1] == "entries" else int(match[1])
    index = int(match[2].replace("x", "").replace("/", ""))
    width = int(match[3]) if match[3] else WIDTH
    name = TileName(level, index, width)
    partial_too_wide = match[3] is not None and width >= WIDTH
    if partial_too_wide or (level or 0) >= LEVELS or _format_index(index) != match[2]:
        raise Malformed("this is not the path of a tile", "levels are 0 to 63, partial widths 1 to 255")
    return name


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes tile `index` of `level` (a bundle: level 0) holds in a tree of `size` leaves; 0: no such tile."""
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - index * WIDTH))


def tree_tiles(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (level, number of full tiles, width of the partial tile or 0) for each level that a tree of `size` leaves has."""
    level = 0
    while hashes := size >> (HEIGHT * level):
        yield level, hashes // WIDTH, hashes % WIDTH
        level += 1


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Return the entries, each behind its length. An entry over 65,535 bytes is `TooLarge`."""
    out = bytearray()
    for entry in entries:
        if len(entry) > ENTRY:
            raise TooLarge(f"a log entry of {len(entry)} bytes is over the limit of {ENTRY}", "record a digest of the long part")
        out += len(entry).to_bytes(2, "big")
        out += entry
    return bytes(out)


def decode_bundle(data: bytes) -> list[bytes]:
    """Return the entries of a bundle; bytes that end inside an entry are `Malformed`."""
    entries: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if start > end or at > end:
            raise Malformed(f"the bundle ends inside entry {len(entries)}", "fetch it again")
        entries.append(data[start:at])
    return entries

"""An exported log as files (spec/log-directory.md): which there are, which there must be, and their bytes.

checkpoint                     the newest signed checkpoint
keys                           the log's verifier keys, as it states them (never trusted by itself)
checkpoints/<size>             earlier signed checkpoints
tile/<level>/<index>[.p/<w>]   hashes (C2SP tlog-tiles)
tile/entries/<index>[.p/<w>]   entries, each behind its length in two bytes
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from keyclave_verify.merkle import HASH, HEIGHT, WIDTH
from keyclave_verify.reading import MEGABYTE, read_file
from keyclave_verify.report import Unusable

_PATH = re.compile(r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
ENTRIES = -1  # the "level" of entry bundles
TILE_BYTES = WIDTH * HASH
BUNDLE_BYTES = WIDTH * (2 + 65_535)  # entries of the greatest length, each behind its length


def _spell(index: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile, or of an entry bundle (level `ENTRIES`)."""
    return f"tile/{'entries' if level == ENTRIES else level}/{_spell(index)}" + (f".p/{width}" if width != WIDTH else "")


def parse_path(path: str) -> tuple[int, int, int] | None:
    """Return (level, index, width) of a path, or None for a path that names neither tile nor bundle."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    level = ENTRIES if match[1] == "entries" else int(match[1])
    index, width = int(match[2].replace("x", "").replace("/", "")), int(match[3] or WIDTH)
    if width > WIDTH:  # or its first 256 hashes would do for the full tile, with whatever comes behind them
        return None
    return (level, index, width) if tile_path(level, index, width) == path else None


def _most(path: str) -> int:
    """Return how long a file of the layout can be."""
    if path.startswith("tile/entries/"):
        return BUNDLE_BYTES
    return TILE_BYTES if path.startswith("tile/") else MEGABYTE


def count_at(level: int, size: int) -> int:
    """Return how many hashes (or entries) a level holds in a tree of `size` leaves."""
    return size >> (HEIGHT * max(0, level))


class LogDirectory:
    """The files of an export. Reading never follows what the files say: only paths of the layout are opened."""

    def __init__(self, root: Path) -> None:
        if not os.path.isdir(root):
            raise Unusable(f"{root}: there is no such directory, or it cannot be read")
        self._root = root
        self.tiles: dict[tuple[int, int], list[int]] = {}  # (level or ENTRIES, index) -> widths there are, ascending
        self.strays: dict[str, str] = {}  # what is not of the layout, and why
        self.kept = sorted(self._walk("checkpoints"))
        for path in self._walk("tile"):
            name = parse_path(path)
            if name is None:
                self.strays[path] = "is no part of a log"
            else:
                self.tiles.setdefault(name[:2], []).append(name[2])
        for widths in self.tiles.values():
            widths.sort()
        self._indexes: dict[int, list[int]] = {}  # level -> tiles that there are, ascending
        for level, index in sorted(self.tiles):
            self._indexes.setdefault(level, []).append(index)

    def _walk(self, top: str) -> Iterator[str]:
        """Yield the paths of the files below; a folder that cannot be listed is not an empty one."""
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    for entry in entries:
                        path = f"{folder}/{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(path)
                        elif entry.is_file():
                            yield path
                        else:  # a pipe, a device, a link to nothing
                            self.strays[path] = "is no regular file"
            except OSError as error:
                if folder == top and isinstance(error, FileNotFoundError) and not (self._root / top).is_symlink():
                    return
                raise Unusable(f"{self._root / folder}: cannot be read: {error.strerror}") from None

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file, one more than its kind can hold of a longer one; None when there is none."""
        return read_file(self._root / path, _most(path))

    def indexes(self, level: int) -> list[int]:
        """Return which tiles of a level there are, whatever their widths."""
        return self._indexes.get(level, [])

    def best_width(self, level: int, index: int, width: int) -> int:
        """Return the width of the file to take for a tile of `width`: itself, else the next wider, else the widest; 0 = none."""
        widths = self.tiles.get((level, index), [])
        return next((w for w in widths if w >= width), widths[-1] if widths else 0)

    def read_tile(self, level: int, index: int, width: int) -> bytes:
        """Return `width` hashes of a tile, cut from a wider one if need be; too few are KeyError."""
        found = self.best_width(level, index, width)
        data = self.read(tile_path(level, index, found)) if found else None
        if data is None or len(data) < width * HASH:
            raise KeyError(tile_path(level, index, width))
        return data[: width * HASH]

    def surplus(self, size: int) -> list[tuple[str, str]]:
        """Return the files that a log of `size` entries does not have, and what is wrong with each."""
        beyond = list(self.strays.items())
        for (level, index), widths in self.tiles.items():
            for width in widths:
                end = index * WIDTH + width
                if end > count_at(level, size):
                    reached = end << (HEIGHT * max(0, level))
                    beyond.append((tile_path(level, index, width), f"goes on to {reached} but the checkpoint says {size}"))
        return sorted(beyond)

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
from pathlib import Path

from keyclave_verify.merkle import HASH, HEIGHT, WIDTH
from keyclave_verify.report import Unusable

_PATH = re.compile(r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
ENTRIES = -1  # the "level" of entry bundles


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
    return (level, index, width) if tile_path(level, index, width) == path else None


def count_at(level: int, size: int) -> int:
    """Return how many hashes (or entries) a level holds in a tree of `size` leaves."""
    return size >> (HEIGHT * max(0, level))


class LogDirectory:
    """The files of an export. Reading never follows what the files say: only paths of the layout are opened."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise Unusable(f"{root}: there is no such directory")
        self._root = root
        self.tiles: dict[tuple[int, int], list[int]] = {}  # (level or ENTRIES, index) -> widths there are, ascending
        self.strays: list[str] = []  # files under tile/ that are no tile
        for path in self._walk("tile"):
            name = parse_path(path)
            if name is None:
                self.strays.append(path)
            else:
                self.tiles.setdefault(name[:2], []).append(name[2])
        for widths in self.tiles.values():
            widths.sort()
        self.kept = sorted(self._walk("checkpoints"))

    def _walk(self, top: str) -> list[str]:
        paths = []
        for folder, _, names in os.walk(self._root / top):
            prefix = Path(folder).relative_to(self._root).as_posix()
            paths += [f"{prefix}/{name}" for name in names]
        return paths

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file, or None when there is none."""
        try:
            return (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise Unusable(f"{self._root / path}: cannot be read: {error.strerror}") from None

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

    def surplus(self, size: int) -> list[tuple[str, int]]:
        """Return the files that a log of `size` entries does not have, each with the entry it reaches to; 0 = no tile at all."""
        beyond = [(path, 0) for path in self.strays]
        for (level, index), widths in self.tiles.items():
            for width in widths:
                end = index * WIDTH + width
                if end > count_at(level, size):
                    beyond.append((tile_path(level, index, width), end << (HEIGHT * max(0, level))))
        return sorted(beyond)

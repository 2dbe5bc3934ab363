"""The pass over an export's files: entries against level 0 tiles, tiles against the tiles above, nothing missing, nothing beyond.

What is hashed upward is always what the stored tile says, so that one changed entry is one fault and not a chain of them; every
stored tile is compared both with what lies under it and with what lies above.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise

from keyclave_verify.checkpoints import show_time
from keyclave_verify.directory import ENTRIES, LogDirectory, count_at, tile_path
from keyclave_verify.events import EventOrder
from keyclave_verify.merkle import HASH, WIDTH, perfect_root
from keyclave_verify.report import Fault, Report

_CLOCK = 2  # seconds: a checkpoint is dated in whole seconds, after the events that it covers
_MICROSECONDS = 1_000_000
_UNKNOWN = bytes(HASH)  # stands for the root of a tile that is not there: the fault is noted, and not compared again


class Walk:
    """One pass, for a log of `size` entries; faults go to `report`."""

    def __init__(self, directory: LogDirectory, size: int, report: Report) -> None:
        self._directory = directory
        self._size = size
        self._report = report
        self._ended = False  # the tail is missing: said once, and the levels above are not asked about it
        self._roots = bytearray()  # the roots of the full tiles of the level walked last

    def _fault(self, check: str, code: str, detail: str) -> None:
        self._report.add(Fault(check, code, detail))

    # ---- entries and level 0 ------------------------------------------------------------------------------------------
    def entries(self, order: EventOrder | None, dated: Sequence[tuple[int, int, str]]) -> None:
        """Check every bundle against its tile, and the events' order (None: look at no content).

        `dated` are (size, POSIX seconds, label) of checkpoints: none may be older than an event it covers.
        """
        waiting = sorted(dated, reverse=True)
        for first in range(0, self._size, WIDTH):
            index, width = first // WIDTH, min(WIDTH, self._size - first)
            entries = self._bundle(index, width)
            hashes = b"".join([sha256(b"\x00" + entry).digest() for entry in entries])
            tile = self._tile(0, index, width)
            if tile is not None and not tile.startswith(hashes):
                self._name_entries(first, hashes, tile)
            if width == WIDTH:
                found = tile or hashes
                self._roots += perfect_root(found) if len(found) == WIDTH * HASH else _UNKNOWN
            if order is not None:
                self._check_order(order, entries, first, waiting)
            if self._ended:
                break

    def _bundle(self, index: int, width: int) -> list[bytes]:
        """Return the entries of a bundle, as many as there are up to `width`."""
        found = self._directory.best_width(ENTRIES, index, width)
        path = tile_path(ENTRIES, index, found or width)
        data = self._directory.read(path) if found else b""
        entries, rest = split_bundle(data or b"")
        end = index * WIDTH + len(entries)
        if rest:
            self._fault("length", "bundle_truncated", f"{path} is cut off inside entry {end}")
        elif len(entries) < width:
            if any(level == ENTRIES and later > index for level, later in self._directory.tiles):
                state = f"ends before entry {end}" if found else "is missing"
                self._fault("length", "bundle_missing", f"{path} {state}, though the log goes on after it")
            else:
                self._ended = True
                self._fault("length", "tail_missing", f"the log ends at {end} but the checkpoint says {self._size}")
        elif len(entries) != found:
            self._fault("length", "surplus", f"{path} holds {len(entries)} entries, not {found}")
        return entries[:width]

    def _tile(self, level: int, index: int, width: int) -> bytes | None:
        """Return a tile's hashes; None after naming it when it is not there or not whole."""
        found = self._directory.best_width(level, index, width)
        path = tile_path(level, index, found)
        data = self._directory.read(path) if found >= width else None
        if data is None:
            if not self._ended:
                self._fault("length", "tile_missing", f"{tile_path(level, index, width)} is missing")
            return None
        if len(data) != found * HASH:
            self._fault("tiles", "tile_length", f"{path} is {len(data):,} bytes, not {found * HASH:,}")
            return None
        return data[: width * HASH]

    def _name_entries(self, first: int, hashes: bytes, tile: bytes) -> None:
        """Say which entries do not match, and which of them only changed places."""
        path = tile_path(0, first // WIDTH, len(tile) // HASH)
        places = {tile[at : at + HASH]: first + at // HASH for at in range(0, len(tile), HASH)}
        for at in range(0, len(hashes), HASH):
            found = hashes[at : at + HASH]
            if found == tile[at : at + HASH]:
                continue
            detail = f"entry {first + at // HASH} does not match its hash in {path}"
            if found in places:
                self._fault("entries", "entry_moved", f"{detail}: entry {places[found]} was moved there")
            else:
                self._fault("entries", "entry_mismatch", detail)

    def _check_order(self, order: EventOrder, entries: Sequence[bytes], first: int, waiting: list[tuple[int, int, str]]) -> None:
        """Check the events of one bundle, stopping at each checkpoint that ends among them (`waiting`, smallest last)."""
        done = 0
        while waiting and waiting[-1][0] <= first + len(entries):
            size, signed, label = waiting.pop()
            stop = max(done, size - first)
            self._report.add(*order.check(entries[done:stop], first + done))
            done = stop
            if order.latest > (signed + _CLOCK) * _MICROSECONDS:
                detail = f"{label} is dated {show_time(signed)}, before an event that it covers"
                self._fault("events", "checkpoint_backdated", detail)
        self._report.add(*order.check(entries[done:], first + done))

    # ---- the levels above ---------------------------------------------------------------------------------------------
    def tiles(self) -> None:
        """Check every level above the first against the full tiles below it. Comes after `entries`."""
        level = 1
        while not self._ended and (count := count_at(level, self._size)):
            roots, self._roots = bytes(self._roots), bytearray()
            for first in range(0, count, WIDTH):
                width = min(WIDTH, count - first)
                expected = roots[first * HASH : (first + width) * HASH]
                tile = self._tile(level, first // WIDTH, width)
                if tile is not None and tile != expected:
                    self._name_tiles(level, first, expected, tile)
                if width == WIDTH:
                    self._roots += perfect_root(tile or expected)
            level += 1

    def _name_tiles(self, level: int, first: int, expected: bytes, tile: bytes) -> None:
        parent = tile_path(level, first // WIDTH, len(tile) // HASH)
        for at in range(0, len(tile), HASH):
            if expected[at : at + HASH] not in (tile[at : at + HASH], _UNKNOWN):
                child = tile_path(level - 1, first + at // HASH)
                self._fault("tiles", "tile_mismatch", f"{parent} does not match its child {child}")

    # ---- files that should not be there, or are older -----------------------------------------------------------------
    def surplus(self) -> None:
        """Name what lies beyond the size, and older partial files that are not the beginning of the newer one."""
        for path, end in self._directory.surplus(self._size):
            reason = f"goes on to {end} but the checkpoint says {self._size}" if end else "is no part of a log"
            self._fault("length", "surplus", f"{path} {reason}")
        for (level, index), widths in self._directory.tiles.items():
            for narrow, wide in pairwise(widths):
                self._check_partial(level, tile_path(level, index, narrow), tile_path(level, index, wide), narrow)

    def _check_partial(self, level: int, narrow: str, wide: str, width: int) -> None:
        part, whole = self._directory.read(narrow) or b"", self._directory.read(wide) or b""
        detail = f"{narrow} is not the beginning of {wide}"
        if level != ENTRIES and part != whole[: width * HASH]:
            self._fault("tiles", "partial_mismatch", detail)
        if level == ENTRIES and split_bundle(part) != (split_bundle(whole)[0][:width], b""):
            self._fault("entries", "partial_mismatch", detail)


def split_bundle(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole entries of a bundle and the bytes left over (none when it is whole)."""
    entries: list[bytes] = []
    start, end = 0, len(data)
    while start + 2 <= end:
        stop = start + 2 + (data[start] << 8 | data[start + 1])
        if stop > end:
            break
        entries.append(data[start + 2 : stop])
        start = stop
    return entries, data[start:]

"""The pass over an export's files: entries against level 0 tiles, tiles against the tiles above, nothing missing, nothing beyond.

What is hashed upward is always what the stored tile says, so that one changed entry is one fault and not a chain of them; every
stored tile is compared both with what lies under it and with what lies above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import pairwise

from keyclave_verify.checkpoints import show_time
from keyclave_verify.directory import ENTRIES, TILE_BYTES, LogDirectory, count_at, tile_path
from keyclave_verify.events import EventOrder
from keyclave_verify.merkle import HASH, WIDTH, perfect_root
from keyclave_verify.report import Fault, Report

_CLOCK = 2  # seconds: a checkpoint is dated in whole seconds, after the events that it covers
_MICROSECONDS = 1_000_000
_UNKNOWN = bytes(HASH)  # stands for the root of a tile that is not there: the fault is noted, and not compared again


class Walk:
    """One pass, for a log of `size` entries; faults go to `report`.

    It goes from file to file that is there, never from number to number up to `size`: a size costs a forger nothing to write.
    """

    def __init__(self, directory: LogDirectory, size: int, report: Report) -> None:
        self._directory = directory
        self._size = size
        self._report = report
        self._last = directory.indexes(ENTRIES)[-1] if directory.indexes(ENTRIES) else -1
        self._ended = False  # the tail is missing: said once, and the levels above are not asked about it
        self.unseen: set[str] = set()  # checks that were not made of all, for something to make them with is missing
        # the roots of the full tiles of the level walked last, under the tile above that must hold them
        self._roots: dict[int, bytearray] = {}

    def _fault(self, check: str, code: str, detail: str) -> None:
        self._report.add(Fault(check, code, detail))

    def _unseen(self, level: int) -> None:
        """Something of a level is missing: remember which checks it is missing to."""
        self.unseen |= {"entries", "events"} if level == ENTRIES else {"entries", "tiles"} if level == 0 else {"tiles"}

    # ---- entries and level 0 ------------------------------------------------------------------------------------------
    def entries(self, order: EventOrder | None, dated: Sequence[tuple[int, int, str]]) -> None:
        """Check every bundle against its tile, and the events' order (None: look at no content).

        `dated` are (size, POSIX seconds, label) of checkpoints: none may be older than an event it covers.
        """
        waiting = sorted(dated, reverse=True)
        end = min(self._last + 1, _tiles(self._size))
        for index in self._there(0, {*self._directory.indexes(ENTRIES), *self._directory.indexes(0)}, end):
            first, width = index * WIDTH, min(WIDTH, self._size - index * WIDTH)
            entries = self._bundle(index, width)
            hashes = b"".join([sha256(b"\x00" + entry).digest() for entry in entries])
            tile = self._tile(0, index, width)
            wrong = set() if tile is None or tile.startswith(hashes) else self._name_entries(first, hashes, tile)
            if width == WIDTH and len(tile or hashes) == WIDTH * HASH:
                self._note_root(index, perfect_root(tile or hashes))
            if order is not None:
                self._check_order(order, entries, first, waiting, wrong)
        if not self._ended and end < _tiles(self._size):
            self._tail_missing(end * WIDTH)

    def _there(self, level: int, indexes: set[int], end: int) -> Iterator[int]:
        """Yield the tiles to check below `end`, after naming what is missing between them (for level 0, bundles too)."""
        expected = 0
        for index in [*sorted(index for index in indexes if index < end), end]:
            if index > expected:
                for kind in (ENTRIES, 0) if level == 0 else (level,):
                    self._missing(kind, expected, index)
            if index < end:
                yield index
            expected = index + 1

    def _missing(self, level: int, first: int, stop: int) -> None:
        """Name a gap, as one fault however wide it is."""
        self._unseen(level)
        last = tile_path(level, stop - 1, min(WIDTH, count_at(level, self._size) - (stop - 1) * WIDTH))
        span = f"{last} is" if stop - first == 1 else f"{tile_path(level, first)} to {last} are"
        if level == ENTRIES:
            self._fault(
                "length",
                "bundle_missing",
                f"{span} missing, though the log goes on after {'it' if stop - first == 1 else 'them'}",
            )
        elif not self._ended:
            self._fault("length", "tile_missing", f"{span} missing")

    def _tail_missing(self, end: int) -> None:
        self._ended = True
        self.unseen |= {"entries", "events", "tiles"}
        self._fault("length", "tail_missing", f"the log ends at {end} but the checkpoint says {self._size}")

    def _bundle(self, index: int, width: int) -> list[bytes]:
        """Return the entries of a bundle, as many as there are up to `width`."""
        found = self._directory.best_width(ENTRIES, index, width)
        if not found:
            self._missing(ENTRIES, index, index + 1)
            return []
        path = tile_path(ENTRIES, index, found)
        data = self._directory.read(path) or b""
        entries, rest = split_bundle(data)
        end = index * WIDTH + len(entries)
        if len(entries) < width:
            self._unseen(ENTRIES)
        if rest:
            self._fault("length", "bundle_truncated", f"{path} is cut off inside entry {end}")
        elif len(entries) < width:
            if index < self._last:
                state = f"ends before entry {end}" if data else "is empty"
                self._fault("length", "bundle_missing", f"{path} {state}, though the log goes on after it")
            else:
                self._tail_missing(end)
        elif len(entries) != found:
            self._fault("length", "surplus", f"{path} holds {len(entries)} entries, not {found}")
        return entries[:width]

    def _tile(self, level: int, index: int, width: int) -> bytes | None:
        """Return a tile's hashes; None after naming it when it is not there or not whole."""
        found = self._directory.best_width(level, index, width)
        path = tile_path(level, index, found)
        data = self._directory.read(path) if found >= width else None
        if data is None:
            self._missing(level, index, index + 1)
            return None
        if len(data) != found * HASH:
            length = f"{len(data):,}" if len(data) <= TILE_BYTES else f"more than {TILE_BYTES:,}"
            self._unseen(level)
            self._fault("tiles", "tile_length", f"{path} is {length} bytes, not {found * HASH:,}")
            return None
        return data[: width * HASH]

    def _note_root(self, index: int, root: bytes) -> None:
        """Remember what a full tile hashes to, for the tile above it."""
        at = index % WIDTH * HASH
        self._roots.setdefault(index // WIDTH, bytearray(WIDTH * HASH))[at : at + HASH] = root

    def _name_entries(self, first: int, hashes: bytes, tile: bytes) -> set[int]:
        """Say which entries do not match, and which of them only changed places; return their numbers."""
        wrong = set()
        path = tile_path(0, first // WIDTH, len(tile) // HASH)
        places = {tile[at : at + HASH]: first + at // HASH for at in range(0, len(tile), HASH)}
        for at in range(0, len(hashes), HASH):
            found = hashes[at : at + HASH]
            if found == tile[at : at + HASH]:
                continue
            wrong.add(first + at // HASH)
            detail = f"entry {first + at // HASH} does not match its hash in {path}"
            if found in places:
                self._fault("entries", "entry_moved", f"{detail}: entry {places[found]} was moved there")
            else:
                self._fault("entries", "entry_mismatch", detail)
        return wrong

    def _check_order(
        self, order: EventOrder, entries: Sequence[bytes], first: int, waiting: list[tuple[int, int, str]], wrong: set[int]
    ) -> None:
        """Check the events of one bundle, stopping at each checkpoint that ends among them (`waiting`, smallest last)."""
        done = 0
        while waiting and waiting[-1][0] <= first + len(entries):
            size, signed, label = waiting.pop()
            stop = max(done, size - first)
            self._report.add(*order.check(entries[done:stop], first + done, wrong))
            done = stop
            if order.latest > (signed + _CLOCK) * _MICROSECONDS:
                detail = f"{label} is dated {show_time(signed)}, before an event that it covers"
                self._fault("events", "checkpoint_backdated", detail)
        self._report.add(*order.check(entries[done:], first + done, wrong))

    # ---- the levels above ---------------------------------------------------------------------------------------------
    def tiles(self) -> None:
        """Check every level above the first against the full tiles below it. Comes after `entries`."""
        level = 1
        while not self._ended and (count := count_at(level, self._size)):
            roots, self._roots = self._roots, {}
            for index in self._there(level, {*roots, *self._directory.indexes(level)}, -(-count // WIDTH)):
                width = min(WIDTH, count - index * WIDTH)
                expected = bytes(roots.get(index, _UNKNOWN * WIDTH)[: width * HASH])
                tile = self._tile(level, index, width)
                if tile is not None and tile != expected:
                    self._name_tiles(level, index * WIDTH, expected, tile)
                if width == WIDTH and (tile or _UNKNOWN not in _hashes(expected)):
                    self._note_root(index, perfect_root(tile or expected))
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
        for path, reason in self._directory.surplus(self._size):
            self._fault("length", "surplus", f"{path} {reason}")
        for (level, index), widths in self._directory.tiles.items():
            for narrow, wide in pairwise(widths):
                self._check_partial(level, tile_path(level, index, narrow), tile_path(level, index, wide), narrow)

    def _check_partial(self, level: int, narrow: str, wide: str, width: int) -> None:
        part, whole = (self._directory.read(path) or b"" for path in (narrow, wide))
        detail = f"{narrow} is not the beginning of {wide}"
        if level != ENTRIES and part != whole[: width * HASH]:
            self._fault("tiles", "partial_mismatch", detail)
        if level == ENTRIES and split_bundle(part) != (split_bundle(whole)[0][:width], b""):
            self._fault("entries", "partial_mismatch", detail)


def _tiles(size: int) -> int:
    """Return how many tiles of level 0 a log has."""
    return -(-size // WIDTH)


def _hashes(tile: bytes) -> list[bytes]:
    return [tile[at : at + HASH] for at in range(0, len(tile), HASH)]


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

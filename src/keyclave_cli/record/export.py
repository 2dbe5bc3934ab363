"""Fetching the log into a directory (spec/log-directory.md), incrementally and so that nothing kept before is lost.

Full tiles never change, so those that are there are not fetched again. If the server has rewritten its history, the
old tiles stay as they are and do not fit the new checkpoint: the verification finds it. The new checkpoint is written
last; one it replaces is kept.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from keyclave_cli.problems import Stop
from keyclave_client import Client
from keyclave_client.errors import Unknown
from keyclave_verify.checkpoints import Checkpoint, parse_checkpoint
from keyclave_verify.directory import ENTRIES, LogDirectory, count_at, tile_path
from keyclave_verify.merkle import HASH, WIDTH
from keyclave_verify.report import Fault
from keyclave_verify.walk import split_bundle

_AT_ONCE = 4  # requests
_FIRST_CHECKPOINT = 5.0  # seconds that a first checkpoint may take
_LOOK_AGAIN = 0.1
_QUEUE = 256  # tiles handed out before the first of them is written
Told = Callable[[int, int], None]  # files fetched, files to fetch


class Tile(NamedTuple):
    """A tile or entry bundle to fetch."""

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """Return its path in the directory."""
        return tile_path(self.level, self.number, self.width)


class Exported(NamedTuple):
    """What came of it."""

    origin: str
    size: int
    fetched: int
    there: int


def newest_checkpoint(client: Client) -> bytes:
    """Return the newest checkpoint as served; a server that has just begun its log signs the first one within moments."""
    deadline = time.monotonic() + _FIRST_CHECKPOINT
    while True:
        try:
            return client.checkpoint()
        except Unknown:
            if time.monotonic() > deadline:
                raise Stop(
                    "the server has signed no checkpoint yet", "it signs one a second once it is open: try again"
                ) from None
        time.sleep(_LOOK_AGAIN)


def read_served_checkpoint(raw: bytes) -> Checkpoint:
    """Parse a checkpoint as served; nothing is verified yet."""
    try:
        return parse_checkpoint(raw, "the served checkpoint")
    except Fault as fault:
        raise Stop(fault.detail, "check the address; if it is right, tell the server's operators") from None


def export_log(client: Client, folder: Path, told: Told = lambda _done, _all: None) -> Exported:
    """Bring `folder` up to the server's newest checkpoint."""
    raw = newest_checkpoint(client)
    checkpoint = read_served_checkpoint(raw)
    keys = client.log_keys()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = _own_checkpoint(folder, checkpoint.origin)
    wanted = list(tiles_of(checkpoint.size))
    missing = [tile for tile in wanted if not (folder / tile.path).is_file()]
    for done, (tile, data) in enumerate(_fetch(client, missing), 1):
        _write(folder, tile.path, data)
        told(done, len(missing))
    _drop_outgrown(folder, wanted)
    _write(folder, "keys", (json.dumps({"origin": keys.origin, "vkeys": list(keys.vkeys)}, indent=2) + "\n").encode())
    if before is not None and (before[0].size, before[0].root) != (checkpoint.size, checkpoint.root):
        _keep(folder, before[0].size, before[1])
    _write(folder, "checkpoint", raw)
    return Exported(checkpoint.origin, checkpoint.size, len(missing), len(wanted) - len(missing))


def tiles_of(size: int) -> Iterator[Tile]:
    """Yield every entry bundle and tile that a log of `size` entries has."""
    for index, width in _spans(count_at(0, size)):
        yield Tile(ENTRIES, index, width)
    level = 0
    while count := count_at(level, size):
        for index, width in _spans(count):
            yield Tile(level, index, width)
        level += 1


def _spans(count: int) -> Iterator[tuple[int, int]]:
    for index in range(count // WIDTH):
        yield index, WIDTH
    if count % WIDTH:
        yield count // WIDTH, count % WIDTH


def _own_checkpoint(folder: Path, origin: str) -> tuple[Checkpoint, bytes] | None:
    """Return the checkpoint that is there; a folder that holds something else is not written to."""
    try:
        raw = (folder / "checkpoint").read_bytes()
    except FileNotFoundError:
        if any(
            not entry.name.startswith(".") and entry.name not in ("tile", "keys", "checkpoints") for entry in folder.iterdir()
        ):
            raise Stop(f"{folder} holds something else than a log", "name a new folder for the export") from None
        return None
    try:
        before = parse_checkpoint(raw, str(folder / "checkpoint"))
    except Fault as fault:
        raise Stop(fault.detail, "name a new folder for the export, and keep this one as it is") from None
    if before.origin != origin:
        raise Stop(f"{folder} holds the log {before.origin}, the server's is {origin}", "name another folder for the export")
    return before, raw


def _fetch(client: Client, tiles: list[Tile]) -> Iterator[tuple[Tile, bytes]]:
    """Yield tiles with their bytes, in order, several requests at a time."""
    waiting = iter(tiles)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tile") as pool:
        while some := list(islice(waiting, _QUEUE)):
            yield from zip(some, pool.map(lambda tile: _fetch_one(client, tile), some), strict=True)


def _fetch_one(client: Client, tile: Tile) -> bytes:
    width = None if tile.width == WIDTH else tile.width
    data = client.entries(tile.number, width) if tile.level == ENTRIES else client.tile(tile.level, tile.number, width)
    if tile.level == ENTRIES:
        entries, rest = split_bundle(data)
        whole = len(entries) == tile.width and not rest
    else:
        whole = len(data) == tile.width * HASH
    if not whole:
        raise Stop(f"the server's {tile.path} is not whole", "run the command again; if it stays so, tell its operators")
    return data


def _drop_outgrown(folder: Path, wanted: list[Tile]) -> None:
    """Remove partial files that a wider one has replaced, if they are its beginning; the others stay, as evidence."""
    there = LogDirectory(folder)
    for tile in wanted:
        for width in there.tiles.get((tile.level, tile.number), []):
            if width < tile.width:
                narrow = folder / tile_path(tile.level, tile.number, width)
                if (folder / tile.path).read_bytes().startswith(narrow.read_bytes()):
                    narrow.unlink()
        if tile.width == WIDTH:
            _remove_empty(folder / (tile.path + ".p"))


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # there is none, or something is left in it


def _keep(folder: Path, size: int, raw: bytes) -> None:
    if not (folder / "checkpoints" / str(size)).exists():
        _write(folder, f"checkpoints/{size}", raw)


def _write(folder: Path, name: str, data: bytes) -> None:
    """Write a file whole or not at all; what is half written never lies where a tile is looked for."""
    dest = folder / name
    dest.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = folder / f".incoming.{os.getpid()}"
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, dest)
    finally:
        partial.unlink(missing_ok=True)

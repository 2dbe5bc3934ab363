"""A log with millions of events before the first request, without waiting for the server to write them.

The events are real leaves: canonical, numbered without gaps by the home's own node, each hashed into the tree by the product's
own code. Only the way into the file differs: segments of thousands, and no sync until the end. A server that starts on the
home cannot tell.
"""

from __future__ import annotations

import sqlite3
import struct
import time
from pathlib import Path

from keyclave.audit.tree import Tree
from keyclave.crypto.digest import leaf_hashes
from keyclave.store.sqlite import SqliteStore

SEGMENT = 4096  # events of one row: a busy server's groups hold up to 512
_LENGTH = struct.Struct(">H").pack
EVENT = (
    '{"actor":"bench","at":%d,"credential":"crd_aaaaaaaaaaaaaaaaaaaaaaaaaa","id":"%s-%d","key":"key_aaaaaaaaaaaaaaaaaaaaaaaaaa",'
    '"op":"encrypt","outcome":"ok","role":"application","source":"127.0.0.1","tenant":"ten_aaaaaaaaaaaaaaaaaaaaaaaaaa","version":1}'
)


def prefill(database: Path, events: int) -> float:
    """Add `events` events to the log of a home whose server is not running; return the seconds that it took."""
    began = time.monotonic()
    store = SqliteStore(database)
    node, first = store.node, store.next_event
    full = store.last_tile() * 256
    entries = list(store.read_entries(full, first - full))
    store.close()
    if full:
        raise ValueError("the home has more than a tile of events already")
    tree = Tree()
    tiles = tree.append_many(leaf_hashes(entries))
    at = time.time_ns() // 1000 - events - 1
    conn = sqlite3.connect(database, isolation_level=None)
    conn.execute("PRAGMA synchronous = OFF")
    for start in range(first, first + events, SEGMENT):
        numbers = range(start, min(start + SEGMENT, first + events))
        leaves = [(EVENT % (at + number, node, number)).encode() for number in numbers]
        tiles += tree.append_many(leaf_hashes(leaves))
        packed = b"".join([part for leaf in leaves for part in (_LENGTH(len(leaf)), leaf)])
        conn.execute("BEGIN")
        conn.execute("INSERT INTO segments (first, count, entries) VALUES (?, ?, ?)", (start, len(leaves), packed))
        rows = [(tile.level, tile.index, tile.data) for tile in tiles]
        conn.executemany("INSERT INTO log_tiles (level, number, hashes) VALUES (?, ?, ?)", rows)
        conn.execute("COMMIT")
        tiles.clear()
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    return time.monotonic() - began

"""Measures what an event and a key take in the store and in the record, on a small server of its own."""

from __future__ import annotations

import base64
import json
import sqlite3
import tempfile
from pathlib import Path

from keyclave_cli.record.export import export_log
from keyclave_client import Client
from keyclave_verify.directory import ENTRIES, LogDirectory, tile_path
from keyclave_verify.merkle import WIDTH
from keyclave_verify.walk import split_bundle
from tests.live import launch

_USES, _KEYS = 4_000, 400


def measure_store() -> dict[str, float]:
    """Return bytes for each leaf, for each event in the store, and for each key."""
    with tempfile.TemporaryDirectory(prefix="keyclave-sizing-") as folder:
        live = launch(Path(folder), settings="checkpoint_seconds = 0.1")
        try:
            live.create_key("patient-records", environment="test", classification="ePHI")
            token = live.token(["encrypt"], ["patient-records"])
            context = {"patient": "8f14e45f", "purpose": "treatment"}
            body = {"plaintext": base64.b64encode(bytes(64)).decode(), "context": context}
            empty = _size(live.home)
            for _ in range(_USES):
                assert live.post("/v1/keys/patient-records/encrypt", token, body).status_code == 200
            used = _size(live.home)
            for number in range(_KEYS):
                live.create_key(f"key-{number}", environment="test", classification="ePHI")
            keyed = _size(live.home)
            with Client(live.url, live.tokens["auditor"], ca_file=live.ca_file) as client:
                size = export_log(client, Path(folder) / "log").size
        finally:
            live.stop()
        lengths = _leaves(LogDirectory(Path(folder) / "log"), size)
    stored = (used - empty) / _USES
    return {"leaf": sum(lengths) / len(lengths), "sqlite": stored, "key": (keyed - used) / _KEYS - stored}


def _size(home: Path) -> int:
    """Return the bytes of all pages in use, once the write-ahead log is copied back."""
    with sqlite3.connect(home / "keyclave.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def _leaves(log: LogDirectory, size: int) -> list[int]:
    lengths = []
    for number in range(-(-size // WIDTH)):
        width = min(WIDTH, size - number * WIDTH)
        data = log.read(tile_path(ENTRIES, number, width)) or b""
        lengths += [len(leaf) for leaf in split_bundle(data)[0] if json.loads(leaf)["op"] == "encrypt"]
    return lengths

"""Looking for everything that was acknowledged: in the exported record, verified offline, each event there and there once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from drill.ha.fleet import Fleet
from drill.ha.traffic import KEY, Seen
from keyclave_cli.record.export import export_log
from keyclave_client import Client
from keyclave_client.errors import KeyclaveError
from keyclave_verify.checkpoints import Trust, load_trust
from keyclave_verify.directory import ENTRIES, LogDirectory, tile_path
from keyclave_verify.log import verify_log
from keyclave_verify.merkle import WIDTH
from keyclave_verify.walk import split_bundle

_PLACED = 60.0  # seconds that events may wait for their places after all is well again
_BATCH = 500


class Auditor:
    """Holds the log's keys as they were at the beginning, and an export that grows."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet, self._folder = fleet, folder
        with self._client() as client:
            self._trust: Trust = load_trust("\n".join(client.log_keys().vkeys), "the log's keys")
        self._ids: Counter[str] = Counter()
        self._created: Counter[str] = Counter()  # key names, of acknowledged and other creations
        self._issued: Counter[str] = Counter()
        self._read = 0
        self.stale: dict[str, tuple[str, str]] = {}  # events made while the database was away: operation and key

    def _client(self, node: int = 0) -> Client:
        return self._fleet.client(self._fleet.nodes[node], "auditor", 30)

    def export(self) -> None:
        """Fetch what is new, and read it."""
        with self._client() as client:
            size = export_log(client, self._folder).size
        log = LogDirectory(self._folder)
        for number in range(self._read // WIDTH, -(-size // WIDTH)):
            width = min(WIDTH, size - number * WIDTH)
            data = log.read(tile_path(ENTRIES, number, log.best_width(ENTRIES, number, width))) or b""
            for index, leaf in enumerate(split_bundle(data)[0][:width], number * WIDTH):
                if index >= self._read:
                    self._take(json.loads(leaf))
        self._read = size

    def _take(self, event: Mapping[str, object]) -> None:
        self._ids[str(event["id"])] += 1
        if event.get("stale"):
            self.stale[str(event["id"])] = (str(event["op"]), str(event.get("key")))
        if event["outcome"] == "ok" and event["op"] in ("key-create", "credential-issue"):
            detail = event.get("detail")
            named = detail if isinstance(detail, dict) else {}
            counter = self._created if event["op"] == "key-create" else self._issued
            counter[str(named.get("name") or named.get("principal") or event.get("key"))] += 1

    def missing(self, events: Mapping[str, str]) -> list[str]:
        """Return which of the acknowledged events have no place in the log, once they had time to get one."""
        deadline = time.monotonic() + _PLACED
        while True:
            self.export()
            absent = [event for event in events if event not in self._ids]
            if not absent or time.monotonic() > deadline:
                return absent
            time.sleep(0.2)  # between two looks at a condition

    def twice(self) -> list[str]:
        """Return the events that stand in the log more than once, and the things that were made more than once."""
        counters = self._ids, self._created, self._issued
        return [name for counter in counters for name, count in counter.items() if count > 1]

    def faults(self) -> list[str]:
        """Verify the whole export, strictly."""
        report = verify_log(LogDirectory(self._folder), self._trust, strict=True)
        return [f"{fault.code}: {fault.detail}" for fault in report.faults]

    def gone(self, seen: Seen, application: str) -> list[str]:
        """Return what was acknowledged and does not work: ciphertexts that do not open, keys and credentials that are not there."""
        found = []
        node = len(seen.protected) % len(self._fleet.nodes)
        with self._fleet.client(self._fleet.nodes[node], application, 30) as client:
            for start in range(0, len(seen.protected), _BATCH):
                page = seen.protected[start : start + _BATCH]
                try:
                    opened = client.batch("decrypt", KEY, [{"ciphertext": ciphertext} for ciphertext, _ in page])
                except KeyclaveError as fault:
                    return [f"decrypting again: {fault.code}: {fault.detail}"]
                for (_, plaintext), got in zip(page, opened, strict=True):
                    if getattr(got, "plaintext", None) != plaintext:
                        found.append(f"a ciphertext does not open: {got!r:.100}")
        with self._fleet.client(self._fleet.nodes[node], "custodian", 30) as client:
            for name, key in seen.created.items():
                try:
                    if client.get_key(name).id != key:
                        found.append(f"{name} is another key")
                except KeyclaveError as fault:
                    found.append(f"{name} is gone: {fault.code}")
        with self._fleet.client(self._fleet.nodes[node], "operator", 30) as client:
            there = {credential.id for credential in client.list_credentials()}
        return found + [f"credential {one} is gone" for one in seen.issued.values() if one not in there]

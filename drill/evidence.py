"""Looking for what was acknowledged: in the exported record, verified with `keyclave_verify`, and through the server's verbs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from drill.load import KEY, Kept, Open, Protected
from drill.result import Result
from keyclave_cli.record.export import export_log
from keyclave_client import Client
from keyclave_verify.checkpoints import Trust, load_trust, parse_checkpoint
from keyclave_verify.directory import ENTRIES, LogDirectory, tile_path
from keyclave_verify.log import verify_log
from keyclave_verify.merkle import WIDTH
from keyclave_verify.receipts import verify_consistency, verify_receipt
from keyclave_verify.report import Report
from keyclave_verify.walk import split_bundle
from tests.live import Live

_PAGE = 1000
_RECEIPTS = 3  # fetched and verified after each run


def pinned_keys(live: Live) -> Trust:
    """Return the log's verifier keys, as an auditor takes them once, before anything happens."""
    return load_trust(live.get("/v1/log/keys").text, "the log's keys")


class Auditor:
    """Holds the pinned keys and an export of the log that grows from run to run."""

    def __init__(self, live: Live, folder: Path, trust: Trust) -> None:
        self._live = live
        self._folder = folder
        self._trust = trust
        self._seen: bytes | None = None

    def export(self) -> None:
        """Fetch what is new; what was fetched before stays as it is, so history that changed does not fit any more."""
        self._live.until_placed()
        with Client(self._live.url, self._live.tokens["auditor"], ca_file=self._live.ca_file) as client:
            export_log(client, self._folder)

    def extends(self, kept: Kept, result: Result) -> None:
        """Check that every checkpoint shown so far is the beginning of the log."""
        raw = (self._folder / "checkpoint").read_bytes()
        newest = parse_checkpoint(raw, "the newest checkpoint")
        for old in ([self._seen] if self._seen else []) + kept.checkpoints:
            report = verify_consistency(
                parse_checkpoint(old, "an earlier checkpoint"), newest, self._trust, log=LogDirectory(self._folder)
            )
            _faults(report, result)
        self._seen = raw

    def verify(self, result: Result) -> None:
        """Verify the whole export, strictly."""
        _faults(verify_log(LogDirectory(self._folder), self._trust, strict=True), result)

    def find(self, events: dict[str, tuple[str, str]], result: Result) -> None:
        """Look each acknowledged event up in the export: at the place its id names, or anywhere where nodes number their own."""
        bundles: dict[int, list[bytes]] = {}
        log = LogDirectory(self._folder)
        anywhere = {} if self._live.database is None else self._by_id(log)
        for event, (op, outcome) in events.items():
            index = int(event.rpartition("-")[2])
            if index // WIDTH not in bundles:
                bundles[index // WIDTH] = _bundle(log, index // WIDTH)
            entries = bundles[index // WIDTH]
            there = json.loads(entries[index % WIDTH]) if index % WIDTH < len(entries) else {}
            leaf = there if self._live.database is None else anywhere.get(event, {})
            if (leaf.get("id"), leaf.get("op"), leaf.get("outcome")) != (event, op, outcome):
                result.lose(f"event {event} ({op}) is not in the log: {str(leaf)[:80]}")

    @staticmethod
    def _by_id(log: LogDirectory) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for number in itertools.count():
            entries = _bundle(log, number)
            found |= {leaf["id"]: leaf for leaf in map(json.loads, entries)}
            if len(entries) < WIDTH:
                return found
        raise AssertionError

    def receipts(self, events: Iterable[str], result: Result) -> None:
        """Fetch a few receipts and verify them offline."""
        for event in list(events)[-_RECEIPTS:]:
            answer = self._live.get(f"/v1/audit/receipts/{event}", "auditor")  # asks once all that is durable has its place
            if answer.status_code != 200:
                result.lose(f"no receipt for {event}: {answer.text[:120]}")
            else:
                _faults(verify_receipt(answer.content, event, self._trust), result)


def _bundle(log: LogDirectory, number: int) -> list[bytes]:
    """Return the entries of a bundle, as far as they were exported."""
    width = log.best_width(ENTRIES, number, WIDTH)
    data = log.read(tile_path(ENTRIES, number, width)) if width else b""
    return list(split_bundle(data or b"")[0])


def _faults(report: Report, result: Result) -> None:
    for fault in report.faults:
        result.lose(f"{fault.code}: {fault.detail}")


def open_all(live: Live, application: str, protected: list[Protected], result: Result) -> None:
    """Open every ciphertext and wrapped key again and compare."""
    for verb in ("decrypt", "unwrap"):
        mine = [p for p in protected if p.verb == verb]
        for at in range(0, len(mine), _PAGE):
            page = mine[at : at + _PAGE]
            answer = live.post(f"/v1/keys/{KEY}/{verb}/batch", application, {"items": [p.given for p in page]})
            results = answer.json().get("results", [])
            if len(results) != len(page):
                result.lose(f"{verb} answered {answer.status_code}: {answer.text[:120]}")
            for wanted, got in zip(page, results, strict=False):
                if got.get(wanted.field) != wanted.expected:
                    result.lose(f"{verb} gives {str(got)[:120]}")


def find_changes(live: Live, kept: Kept, result: Result) -> None:
    """Look for every key, version and credential; what was revoked must stay so."""
    for name, key_id in kept.keys.items():
        answer = live.get(f"/v1/keys/{name}", "custodian")
        if answer.status_code != 200 or answer.json()["id"] != key_id:
            result.lose(f"key {name} is gone: {answer.text[:120]}")
    if len(live.get(f"/v1/keys/{kept.turned}", "custodian").json()["versions"]) < kept.versions:
        result.lose(f"version {kept.versions} of {kept.turned} is gone")
    for expected, credentials in ((200, kept.issued), (401, kept.revoked)):
        for credential, token in credentials.items():
            if live.get("/v1/whoami", token).status_code != expected:
                result.lose(f"credential {credential} does not answer {expected}")


def close_open(live: Live, changes: list[Open], result: Result) -> None:
    """Send again what was left without an answer, as a client would: it must have happened once, whichever time it was."""
    for change in changes:
        headers = {"idempotency-key": change.idempotency_key, "content-type": "application/json"}
        content = json.dumps(change.body)  # the same bytes as before: the key is bound to them
        answers = [live.request("POST", change.path, change.token, content=content, headers=headers) for _ in range(2)]
        if any(a.status_code not in (200, 201) for a in answers) or answers[0].content != answers[1].content:
            result.lose(f"{change.path} sent again: {answers[0].status_code} {answers[0].text[:120]}")

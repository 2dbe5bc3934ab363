"""Receipts and consistency: what proves one event, or that a log only grew between two checkpoints, without the log.

A receipt is the server's JSON {"event", "index", "leaf", "proof"}, or a `.tlog-proof` file (C2SP tlog-proof@v1) and the entry's
exact bytes beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from keyclave_verify.checkpoints import (
    Checkpoint,
    Trust,
    order_faults,
    parse_checkpoint,
    show_time,
    signature_faults,
)
from keyclave_verify.directory import LogDirectory
from keyclave_verify.events import parse_event
from keyclave_verify.merkle import HASH, consistency_holds, consistency_proof, inclusion_holds, leaf_hash
from keyclave_verify.reading import check_line_ends, decode_base64, fits, read_json, read_text
from keyclave_verify.report import Fault, Report, Unusable

_HEAD = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile("index (0|[1-9][0-9]{0,18})")
_MICROSECONDS = 1_000_000
_RECEIPT = {"event?": str, "index?": int, "leaf": str, "proof": str}
_CONSISTENCY = {"from": int, "to": int, "proof": [str]}


@dataclass(frozen=True)
class Proof:
    """A tlog-proof as read."""

    index: int
    hashes: list[bytes]
    checkpoint: Checkpoint


def _hashes(lines: list[str]) -> list[bytes]:
    hashes = [decode_base64(line) for line in lines]
    if any(len(node) != HASH for node in hashes):
        raise ValueError("a hash of the proof is not 32 bytes")
    return hashes


def parse_proof(text: str, label: str) -> Proof:
    """Read a tlog-proof; its `extra` line is authenticated by nothing and is passed over. A `Fault` says what is wrong."""
    head, _, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    try:
        check_line_ends(text)
        if lines.pop(0) != _HEAD:
            raise ValueError(f"it does not begin with {_HEAD}")
        if lines and lines[0].startswith("extra "):
            decode_base64(lines.pop(0).removeprefix("extra "))
        match = _INDEX.fullmatch(lines[0]) if lines else None
        if match is None:
            raise ValueError("it has no index line")
        hashes = _hashes(lines[1:])
    except ValueError as error:
        raise Fault("inclusion", "receipt_malformed", f"{label} is not a receipt: {error}") from None
    return Proof(int(match[1]), hashes, parse_checkpoint(checkpoint.encode(), f"the checkpoint in {label}"))


def verify_receipt(raw: bytes, label: str, trust: Trust, leaf: bytes | None = None, *, opaque: bool = False) -> Report:
    """Verify a receipt; `leaf` is the entry's bytes where the file does not hold them itself. `opaque`: the entry is no event."""
    names = ("signatures", "inclusion", *(() if opaque else ("event",)))
    report = Report(trust.origin, "The receipt proves that the event is in the log.", dict.fromkeys(names))
    try:
        stated, entry, text = _read_receipt(raw, label, leaf)
        proof = parse_proof(text, label)
        checkpoint = proof.checkpoint
        report.add(*signature_faults(checkpoint, trust))
        dated = checkpoint.time(trust)
        signers = ", ".join(map(str, trust.keys))
        report.checks["signatures"] = f"the checkpoint in the receipt by {signers}, dated {show_time(dated)}"
        report.checks["inclusion"] = f"entry {proof.index} of {checkpoint.size:,}"
        report.facts = {"origin": checkpoint.origin, "index": proof.index, "size": checkpoint.size, "time": dated}
        if not inclusion_holds(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root):
            detail = f"the proof does not lead from this entry at {proof.index} to the checkpoint of {checkpoint.size}"
            report.add(Fault("inclusion", "not_included", detail))
        if "index" in stated and stated["index"] != proof.index:
            detail = f"the receipt says index {stated['index']}, its proof says {proof.index}"
            report.add(Fault("inclusion", "index_differs", detail))
        if not opaque:
            _check_event(entry, stated, report)
    except Fault as fault:
        report.add(fault)
    return report


def _read_receipt(raw: bytes, label: str, leaf: bytes | None) -> tuple[dict[str, object], bytes, str]:
    """Return what the receipt states beside the proof, the entry, and the proof's text."""
    try:
        text = read_text(raw)
        if text.startswith(_HEAD):
            if leaf is None:
                raise Unusable(f"{label} holds no entry: give the entry's exact bytes with --leaf")
            return {}, leaf, text
        if not text.lstrip().startswith("{"):
            what = f"neither the server's JSON nor a proof ({_HEAD})" if text else "empty"
            raise ValueError(f"it is {what}: give the receipt as it was fetched")
        document = read_json(text)
        if not fits(document, _RECEIPT):
            raise ValueError("it is not of event, index, leaf and proof, texts and a whole number: fetch the receipt again")
        entry = decode_base64(document["leaf"])
    except ValueError as error:
        raise Fault("inclusion", "receipt_malformed", f"{label} is not a receipt: {error}") from None
    if leaf is not None and leaf != entry:
        raise Fault("inclusion", "leaf_differs", f"the entry in {label} is not the one given with --leaf")
    return document, entry, document["proof"]


def _check_event(entry: bytes, stated: dict[str, object], report: Report) -> None:
    """Show the event, and compare its id with the one that the receipt says it is for."""
    try:
        event = parse_event(entry)
    except ValueError as error:
        report.add(Fault("event", "not_an_event", f"the entry is not an event in canonical JSON: {error}"))
        return
    outcome = f"{event.get('op', 'an operation')} by {event.get('actor', 'nobody named')}, {event.get('outcome', 'no outcome')}"
    report.checks["event"] = f"{event['id']}: {outcome}, {show_time(event['at'] // _MICROSECONDS)}"
    report.facts["event"] = event
    if "event" in stated and stated["event"] != event["id"]:
        report.add(Fault("event", "event_differs", f"the receipt is for {stated['event']}, its entry is {event['id']}"))


def verify_consistency(
    old: Checkpoint, new: Checkpoint, trust: Trust, proof: bytes | None = None, log: LogDirectory | None = None
) -> Report:
    """Verify that the log at `new` begins with the log at `old`, by a proof file or by the tiles of an export."""
    report = Report(trust.origin, f"The log of {old.size} entries is the beginning of the log of {new.size}.")
    report.checks["signatures"] = "both checkpoints by " + ", ".join(map(str, trust.keys))
    report.checks["history"] = f"from {old.size:,} to {new.size:,} entries"
    report.facts = {"origin": trust.origin, "from": old.size, "to": new.size}
    report.add(*signature_faults(old, trust), *signature_faults(new, trust))
    if old.size > new.size:
        detail = f"the newer checkpoint has {new.size} entries, the older {old.size}: the tail is gone, or they are swapped"
        report.add(Fault("history", "log_shortened", detail))
        return report
    report.add(*order_faults((old, new), trust))
    try:
        hashes = _consistency_hashes(old.size, new.size, proof, log)
    except KeyError as missing:
        report.add(Fault("history", "tile_missing", f"the log is not whole: {missing.args[0]} is missing"))
        return report
    except ValueError as error:
        report.add(Fault("history", "proof_malformed", f"the proof cannot be read: {error}"))
        return report
    if old.size == new.size and old.root != new.root:
        detail = f"two different logs of {old.size} entries are signed ({old.label} and {new.label}): the log has forked"
        report.add(Fault("history", "log_forked", detail))
    elif not consistency_holds(old.size, old.root, new.size, new.root, hashes):
        detail = f"checkpoint {old.size} is not a prefix of checkpoint {new.size}: history was rewritten or the proof is wrong"
        report.add(Fault("history", "history_rewritten", detail))
    return report


def _consistency_hashes(old: int, new: int, proof: bytes | None, log: LogDirectory | None) -> list[bytes]:
    """Return the proof's hashes: from the file (the server's JSON, or base64 lines), else made from the tiles of the export."""
    if proof is not None:
        return _read_consistency(read_text(proof), old, new)
    if old in (0, new):
        return []
    if log is None:
        raise Unusable("give a proof with --proof, or an exported log with --log")
    return consistency_proof(old, new, log.read_tile)


def _read_consistency(text: str, old: int, new: int) -> list[bytes]:
    if not text.lstrip().startswith("{"):
        return _hashes(text.split())
    document = read_json(text)
    if not fits(document, _CONSISTENCY):
        raise ValueError('it is not the server\'s {"from", "to", "proof"}: fetch it again')
    if (document["from"], document["to"]) != (old, new):
        raise ValueError(f"it is from {document['from']} to {document['to']}, not from {old} to {new}: fetch one for these two")
    return _hashes(document["proof"])

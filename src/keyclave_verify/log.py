"""Verification of a whole exported log. Each step names what it finds; none stops at the first fault.

1. The checkpoint is signed by every trusted key.
2. Every entry hashes to its place in its level 0 tile; the entries are events in order (`walk.py`, `events.py`).
3. Every full tile hashes to its place in the tile above; the root over all is the one in the checkpoint.
4. Nothing is missing before the checkpoint's size, nothing is there beyond it.
5. Every earlier checkpoint, kept in the export or by the auditor, is signed and is the beginning of this log.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from keyclave_verify.checkpoints import (
    Checkpoint,
    Trust,
    order_faults,
    parse_checkpoint,
    parse_trust,
    show_time,
    signature_faults,
)
from keyclave_verify.directory import LogDirectory
from keyclave_verify.events import EventOrder
from keyclave_verify.merkle import root_at
from keyclave_verify.reading import MEGABYTE, read_text
from keyclave_verify.report import Fault, Report
from keyclave_verify.walk import Walk


def verify_log(
    directory: LogDirectory, trust: Trust, older: Sequence[tuple[str, bytes]] = (), *, strict: bool = False, opaque: bool = False
) -> Report:
    """Verify an export against the keys in `trust` and the auditor's own `older` checkpoints (label, bytes).

    `strict` also parses every entry and compares it with its canonical form. `opaque` looks at no entry's content.
    """
    began = time.perf_counter()
    names = ("signatures", "entries", *(() if opaque else ("events",)), "tiles", "length", "root", "history")
    report = Report(trust.origin, "The log is intact.", dict.fromkeys(names))
    checkpoint = _read_checkpoint(directory, report)
    if checkpoint is None:
        return report
    dated = checkpoint.time(trust)
    report.facts = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex(), "time": dated}
    report.checks["signatures"] = f"the checkpoint by {', '.join(map(str, trust.keys))}, dated {show_time(dated)}"
    unsigned = signature_faults(checkpoint, trust)
    report.add(*unsigned, *_key_faults(directory, trust))
    kept = _read_kept(directory, older, trust, report)
    walk = Walk(directory, checkpoint.size, report)
    times = [(one.size, at, one.label) for one in [*kept, checkpoint] if (at := one.time(trust)) is not None]
    walk.entries(None if opaque else EventOrder(strict=strict), times)
    walk.tiles()
    walk.surplus()
    unseen = walk.unseen | _check_root(directory, checkpoint, report)
    for old in kept:
        _check_older(directory, old, checkpoint, report)
    report.add(*order_faults([*kept, checkpoint], trust))
    if unsigned:  # then nobody says how long the log is, what its root is, and what came before
        unseen |= {"length", "root", "history"}
    _describe(report, checkpoint, len(kept), unseen, strict=strict)
    seconds = time.perf_counter() - began
    report.facts |= {"seconds": round(seconds, 3), "events_per_second": round(checkpoint.size / seconds)}
    return report


def _read_checkpoint(directory: LogDirectory, report: Report) -> Checkpoint | None:
    """Return the export's checkpoint; without one nothing else can be checked."""
    raw = directory.read("checkpoint")
    try:
        if raw is None:
            raise Fault("signatures", "checkpoint_missing", "the export has no checkpoint: nothing says how long the log is")
        return parse_checkpoint(raw, "checkpoint")
    except Fault as fault:
        report.add(fault)
        return None


def _describe(report: Report, checkpoint: Checkpoint, kept: int, unseen: set[str], *, strict: bool) -> None:
    """Say what each check covered; one that was not made of all (`unseen`) stays as not checked."""
    form = ", canonical form (every entry parsed)" if strict else " (--strict also parses every entry)"
    history = "no earlier checkpoint to compare with: keep one, and give it with --checkpoint"
    if kept:
        history = f"{kept:,} earlier checkpoint{'s' if kept > 1 else ''}: signed, and the beginning of this log"
    made = {
        "entries": f"{checkpoint.size:,} entries against the hashes in their tiles",
        "events": "numbering and order of time" + form,
        "tiles": "every full tile against the tile above it",
        "length": "nothing missing, nothing beyond the checkpoint",
        "root": checkpoint.root.hex(),
        "history": history,
    }
    report.checks |= {name: text for name, text in made.items() if name in report.checks and name not in unseen}


def _key_faults(directory: LogDirectory, trust: Trust) -> list[Fault]:
    raw = directory.read("keys")
    if raw is None:
        return []
    try:
        stated = parse_trust(read_text(raw[:MEGABYTE]))
    except ValueError as error:
        return [Fault("signatures", "keys_malformed", f"the file keys in the export holds no verifier keys: {error}")]
    if stated.origin != trust.origin or set(stated.keys) != set(trust.keys):
        return [Fault("signatures", "keys_differ", "the keys that the export states are not the trusted keys of this log")]
    return []


def _read_kept(directory: LogDirectory, older: Sequence[tuple[str, bytes]], trust: Trust, report: Report) -> list[Checkpoint]:
    """Return earlier checkpoints whose signatures hold, by size; the others become faults."""
    kept = []
    for label, raw in [*((path, directory.read(path) or b"") for path in directory.kept), *older]:
        try:
            checkpoint = parse_checkpoint(raw, label)
        except Fault as fault:
            report.add(Fault("history", fault.code, fault.detail))
            continue
        faults = [Fault("history", f.code, f.detail) for f in signature_faults(checkpoint, trust)]
        if label in directory.kept and label != f"checkpoints/{checkpoint.size}":
            faults.append(Fault("history", "checkpoint_misnamed", f"{label} holds the checkpoint of size {checkpoint.size}"))
        report.add(*faults)
        if not faults:
            kept.append(checkpoint)
    return sorted(kept, key=lambda checkpoint: checkpoint.size)


def _check_root(directory: LogDirectory, checkpoint: Checkpoint, report: Report) -> set[str]:
    """Compare the root over the tiles with the one that was signed; return what cannot be. Missing tiles are faults already."""
    try:
        root = root_at(checkpoint.size, directory.read_tile)
    except KeyError:
        return {"root"}
    if root != checkpoint.root:
        detail = f"the root of the {checkpoint.size} entries is not the root in the checkpoint: they were changed together"
        report.add(Fault("root", "root_mismatch", detail))
    return set()


def _check_older(directory: LogDirectory, old: Checkpoint, checkpoint: Checkpoint, report: Report) -> None:
    """Check that the log begins with what `old` covered."""
    label = old.label
    if old.size > checkpoint.size:
        detail = f"the log ends at {checkpoint.size} but a checkpoint of {old.size} was signed ({label}): the tail is gone"
        report.add(Fault("history", "log_shortened", detail))
    elif old.size == checkpoint.size:
        if old.root != checkpoint.root:
            detail = f"two different logs of {old.size} entries are signed (checkpoint and {label}): the log has forked"
            report.add(Fault("history", "log_forked", detail))
    else:
        try:
            root = root_at(old.size, directory.read_tile)
        except KeyError as missing:
            report.add(Fault("history", "history_unknown", f"{label} cannot be compared without {missing.args[0]}"))
            return
        if root != old.root:
            detail = f"checkpoint {old.size} is not a prefix of checkpoint {checkpoint.size}: history was rewritten ({label})"
            report.add(Fault("history", "history_rewritten", detail))

"""Every way to tamper with a stored log is found, and named: by the verifier, offline, with the public keys alone.

The attacker has the whole export and may rewrite any file of it; what he lacks is the log's signing keys.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from keyclave.audit.checkpoint import sign_checkpoint
from keyclave.audit.note import parse_note
from keyclave.audit.tiles import decode_bundle, encode_bundle
from keyclave_verify.checkpoints import parse_trust
from keyclave_verify.directory import LogDirectory
from keyclave_verify.log import verify_log
from keyclave_verify.report import Report
from tests.unit.audit.logs import NOON, ORIGIN, Keys, Log, events, lay_down

SIZE = 700
Files = dict[str, bytes]

pytestmark = pytest.mark.requirement("R5", "R7", "R40", "P2")


def make(size: int = SIZE, kept_at: tuple[int, ...] = (256, 400)) -> tuple[Log, Files]:
    """Return a log and its export, with earlier checkpoints at the given sizes."""
    log, kept = Log(), []
    for end in (*kept_at, size):
        log.append(events(end - log.size, first=log.size))
        kept.append(log.checkpoint())
    return log, log.files(kept[:-1])


@pytest.fixture(scope="module")
def made() -> tuple[Log, Files]:
    return make()


@pytest.fixture
def files(made: tuple[Log, Files]) -> Files:
    """Return a fresh copy of the export, to be tampered with."""
    return dict(made[1])


def verify(files: Files, folder: Path, *older: str, strict: bool = False) -> Report:
    """Lay the export down and verify it with the true keys."""
    trust = parse_trust(Log().vkeys())
    kept = [(f"kept-{n}", note.encode()) for n, note in enumerate(older)]
    return verify_log(LogDirectory(lay_down(files, folder)), trust, kept, strict=strict)


def found(report: Report) -> dict[str, str]:
    """Return code -> first sentence of the faults, after checking that the report says so as a whole."""
    assert not report.good
    assert report.fault_count == len(report.faults) > 0
    return {fault.code: fault.detail for fault in reversed(report.faults)}


def only(report: Report, code: str) -> str:
    """Return the sentence of the one fault there is, which has this code."""
    assert [fault.code for fault in report.faults] == [code], [fault.detail for fault in report.faults]
    return report.faults[0].detail


def flip(data: bytes, at: int, bits: int = 1) -> bytes:
    """Return `data` with one byte changed."""
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def rebuilt(entries: list[bytes], like: Files) -> Files:
    """Return the export that an attacker makes of other entries: every tile computed anew, the checkpoints left as they were."""
    forged = Log(entries).files()
    return {path: data for path, data in like.items() if not path.startswith("tile/")} | {
        path: data for path, data in forged.items() if path.startswith("tile/")
    }


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, SIZE])
def test_an_untouched_log_is_good(size: int, strict: bool, tmp_path: Path) -> None:
    _, files = make(size, ())
    report = verify(files, tmp_path, strict=strict)
    assert report.good, [fault.detail for fault in report.faults]
    assert report.facts["size"] == size


def test_an_untouched_log_of_three_levels_is_good_and_one_byte_of_each_level_is_missed(tmp_path: Path) -> None:
    _, files = make(66_000, (65_536,))
    assert verify(files, tmp_path).good
    for path, parent in (("tile/0/100", "tile/1/000"), ("tile/1/000", "tile/2/000.p/1")):
        (tmp_path / path).write_bytes(flip(files[path], 33))
        details = [fault.detail for fault in verify({}, tmp_path).faults]
        assert f"{parent} does not match its child {path}" in details
        (tmp_path / path).write_bytes(files[path])


# ---- one byte -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bits", [0x01, 0x20, 0x80])
def test_one_byte_of_any_file_is_never_missed(bits: int, tmp_path: Path) -> None:
    _, files = make(3, (1,))
    lay_down(files, tmp_path)
    assert verify({}, tmp_path).good
    for path, data in files.items():
        head = len(data) if path.startswith("tile/") else 240  # of long keys and signatures, a few places besides the beginning
        for at in [*range(min(head, len(data))), *range(head, len(data), 211)]:
            (tmp_path / path).write_bytes(flip(data, at, bits))
            assert not verify({}, tmp_path).good, f"{path} byte {at}"
        (tmp_path / path).write_bytes(data)


def test_a_changed_byte_of_an_entry_names_the_entry(files: Files, tmp_path: Path) -> None:
    files["tile/entries/001"] = files["tile/entries/001"].replace(b'"id":"n1-300","key"', b'"id":"n1-309","key"')
    faults = found(verify(files, tmp_path))
    assert faults["entry_mismatch"] == "entry 300 does not match its hash in tile/0/001"
    assert faults["id_order"].startswith("entry 300 is numbered 309")


def test_a_changed_outcome_is_one_fault(files: Files, tmp_path: Path) -> None:
    entries = decode_bundle(files["tile/entries/002.p/188"])
    entries[-1] = entries[-1].replace(b'"outcome":"ok"', b'"outcome":"no"')
    files["tile/entries/002.p/188"] = encode_bundle(entries)
    detail = only(verify(files, tmp_path), "entry_mismatch")
    assert detail == "entry 699 does not match its hash in tile/0/002.p/188"


def test_a_changed_byte_of_a_tile_is_seen_from_below_and_above(files: Files, tmp_path: Path) -> None:
    files["tile/0/001"] = flip(files["tile/0/001"], 44 * 32)
    faults = found(verify(files, tmp_path))
    assert faults["entry_mismatch"] == "entry 300 does not match its hash in tile/0/001"
    assert faults["tile_mismatch"] == "tile/1/000.p/2 does not match its child tile/0/001"


def test_a_changed_byte_of_an_upper_tile_names_its_child(files: Files, tmp_path: Path) -> None:
    files["tile/1/000.p/2"] = flip(files["tile/1/000.p/2"], 32)
    faults = found(verify(files, tmp_path))
    assert faults["tile_mismatch"] == "tile/1/000.p/2 does not match its child tile/0/001"
    assert "root_mismatch" in faults


def test_a_changed_entry_with_its_tile_changed_too_is_seen_from_above(files: Files, tmp_path: Path) -> None:
    log = Log(events(300) + events(1, first=300, actor="nobody") + events(SIZE - 301, first=301))
    for path in ("tile/entries/001", "tile/0/001"):
        files[path] = log.files()[path]
    faults = found(verify(files, tmp_path))
    assert faults.keys() == {"tile_mismatch", "history_rewritten"}
    assert faults["tile_mismatch"] == "tile/1/000.p/2 does not match its child tile/0/001"


def test_a_log_rewritten_with_all_its_tiles_is_not_the_one_that_was_signed(files: Files, tmp_path: Path) -> None:
    forged = rebuilt(events(300) + events(1, first=300, actor="nobody") + events(SIZE - 301, first=301), files)
    faults = found(verify(forged, tmp_path))
    assert faults.keys() == {"root_mismatch", "history_rewritten"}
    assert faults["history_rewritten"].startswith("checkpoint 400 is not a prefix of checkpoint 700: history was rewritten")


# ---- order and length -----------------------------------------------------------------------------------------------------
def test_entries_that_changed_places_are_named(files: Files, tmp_path: Path) -> None:
    entries = decode_bundle(files["tile/entries/000"])
    entries[7], entries[8] = entries[8], entries[7]
    files["tile/entries/000"] = encode_bundle(entries)
    moved = [fault.detail for fault in verify(files, tmp_path).faults if fault.code == "entry_moved"]
    assert moved == [
        "entry 7 does not match its hash in tile/0/000: entry 8 was moved there",
        "entry 8 does not match its hash in tile/0/000: entry 7 was moved there",
    ]


def test_whole_bundles_that_changed_places_are_found(files: Files, tmp_path: Path) -> None:
    files["tile/entries/000"], files["tile/entries/001"] = files["tile/entries/001"], files["tile/entries/000"]
    report = verify(files, tmp_path)
    assert sum(fault.code == "entry_mismatch" for fault in report.faults) == 512


def drop_files(files: Files, *paths: str) -> None:
    """Remove files of the export."""
    for path in paths:
        del files[path]


def test_a_dropped_tail_is_named_with_both_ends(files: Files, tmp_path: Path) -> None:
    drop_files(files, "tile/entries/002.p/188", "tile/0/002.p/188")
    assert only(verify(files, tmp_path), "tail_missing") == "the log ends at 512 but the checkpoint says 700"


def test_a_bundle_that_ends_early_is_a_dropped_tail(files: Files, tmp_path: Path) -> None:
    files["tile/entries/002.p/188"] = encode_bundle(decode_bundle(files["tile/entries/002.p/188"])[:-3])
    assert only(verify(files, tmp_path), "tail_missing") == "the log ends at 697 but the checkpoint says 700"


def test_a_bundle_cut_inside_an_entry_is_named(files: Files, tmp_path: Path) -> None:
    files["tile/entries/002.p/188"] = files["tile/entries/002.p/188"][:-1]
    detail = only(verify(files, tmp_path), "bundle_truncated")
    assert detail == "tile/entries/002.p/188 is cut off inside entry 699"


@pytest.mark.parametrize("cut", [1, 32])
def test_a_tile_cut_short_is_named(cut: int, files: Files, tmp_path: Path) -> None:
    files["tile/0/000"] = files["tile/0/000"][:-cut]
    assert found(verify(files, tmp_path))["tile_length"] == f"tile/0/000 is {8192 - cut:,} bytes, not 8,192"


def test_a_hole_is_named(files: Files, tmp_path: Path) -> None:
    drop_files(files, "tile/entries/001")
    faults = found(verify(files, tmp_path))
    assert faults["bundle_missing"] == "tile/entries/001 is missing, though the log goes on after it"


@pytest.mark.parametrize("path", ["tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"])
def test_a_missing_tile_is_named(path: str, files: Files, tmp_path: Path) -> None:
    drop_files(files, path)
    assert found(verify(files, tmp_path))["tile_missing"] == f"{path} is missing"


def test_the_tail_dropped_with_an_older_checkpoint_put_back_is_caught_by_a_checkpoint_that_somebody_kept(tmp_path: Path) -> None:
    log, files = make()
    short, _ = make(400, (256,))
    older = short.files([Log(events(256)).checkpoint()])
    older["checkpoint"] = files["checkpoints/400"]
    assert verify(older, tmp_path).good  # nothing in the copy itself can tell: it was a whole log once
    detail = only(verify({}, tmp_path, log.checkpoint()), "log_shortened")
    assert detail == "the log ends at 400 but a checkpoint of 700 was signed (kept-0): the tail is gone"


def test_entries_beyond_the_checkpoint_are_named(files: Files, tmp_path: Path) -> None:
    files["checkpoint"] = files.pop("checkpoints/400")
    faults = found(verify(files, tmp_path))
    assert faults.keys() == {"surplus"}
    assert faults["surplus"] == "tile/0/001 goes on to 512 but the checkpoint says 400"


def test_an_entry_appended_to_the_last_bundle_is_named(files: Files, tmp_path: Path) -> None:
    files["tile/entries/002.p/188"] += encode_bundle(events(1, first=SIZE))
    assert only(verify(files, tmp_path), "surplus") == "tile/entries/002.p/188 holds 189 entries, not 188"


@pytest.mark.parametrize("path", ["tile/0/000.gz", "tile/entries/999", "tile/7/000", "tile/0/003.p/1", "tile/1/x000/000"])
def test_a_file_that_is_no_part_of_the_log_is_named(path: str, files: Files, tmp_path: Path) -> None:
    files[path] = b"anything"
    assert path in only(verify(files, tmp_path), "surplus")


def test_an_older_partial_tile_may_stay_but_must_be_the_beginning_of_the_newer(files: Files, tmp_path: Path) -> None:
    files["tile/0/002.p/9"] = files["tile/0/002.p/188"][: 9 * 32]
    files["tile/entries/002.p/9"] = encode_bundle(decode_bundle(files["tile/entries/002.p/188"])[:9])
    assert verify(files, tmp_path).good
    files["tile/0/002.p/9"] = flip(files["tile/0/002.p/9"], 5)
    assert "tile/0/002.p/9 is not the beginning of" in only(verify(files, tmp_path), "partial_mismatch")
    files["tile/0/002.p/9"] = files["tile/0/002.p/188"][: 9 * 32]
    files["tile/entries/002.p/9"] = flip(files["tile/entries/002.p/9"], 5)
    assert "tile/entries/002.p/9 is not the beginning of" in only(verify(files, tmp_path), "partial_mismatch")


# ---- checkpoints ----------------------------------------------------------------------------------------------------------
def resigned(files: Files, keys: Keys) -> Files:
    """Return the export with its checkpoint signed by other keys."""
    root = base64.b64decode(files["checkpoint"].splitlines()[2])
    return files | {"checkpoint": sign_checkpoint(ORIGIN, SIZE, root, keys, NOON + 2).encode()}


def swapped(files: Files) -> Files:
    """Return the export with the two signatures of its checkpoint under each other's key."""
    note = parse_note(files["checkpoint"].decode())
    one, other = note.signatures
    lines = (one._replace(payload=other.payload), other._replace(payload=one.payload))
    return files | {"checkpoint": str(note._replace(signatures=lines)).encode()}


def without_line(files: Files, at: int) -> Files:
    """Return the export with one line of the checkpoint gone."""
    lines = files["checkpoint"].decode().splitlines(keepends=True)
    return files | {"checkpoint": "".join(lines[:at] + lines[at + 1 :]).encode()}


FORGERIES: dict[str, tuple[Callable[[Files], Files], set[str]]] = {
    "signed by other keys": (lambda files: resigned(files, Keys(9)), {"signature_missing"}),
    "signatures swapped": (swapped, {"signature_invalid"}),
    "Ed25519 line gone": (lambda files: without_line(files, 4), {"signature_missing"}),
    "ML-DSA-44 line gone": (lambda files: without_line(files, 5), {"signature_missing"}),
    "root line gone": (lambda files: without_line(files, 2), {"checkpoint_malformed"}),
    "empty": (lambda files: files | {"checkpoint": b""}, {"checkpoint_malformed"}),
    "not text": (lambda files: files | {"checkpoint": b"\xff\xfe\n\n\xff"}, {"checkpoint_malformed"}),
    "gone": (lambda files: {p: d for p, d in files.items() if p != "checkpoint"}, {"checkpoint_missing"}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_checkpoint_is_found(name: str, files: Files, tmp_path: Path) -> None:
    forge, codes = FORGERIES[name]
    assert found(verify(forge(files), tmp_path)).keys() == codes


def test_a_signature_that_does_not_verify_names_who_and_what(files: Files, tmp_path: Path) -> None:
    report = verify(swapped(files), tmp_path)
    details = [fault.detail for fault in report.faults]
    assert "signature of keyclave.example/log (Ed25519 03634642) on checkpoint does not verify" in details
    assert any("(ML-DSA-44 " in detail for detail in details)


def test_a_checkpoint_that_claims_more_than_was_signed_is_found(files: Files, tmp_path: Path) -> None:
    files["checkpoint"] = files["checkpoint"].replace(b"\n700\n", b"\n701\n")
    assert found(verify(files, tmp_path)).keys() == {"signature_invalid", "tail_missing"}


def test_the_checkpoint_of_another_log_is_not_taken(files: Files, tmp_path: Path) -> None:
    other = sign_checkpoint("other.example/log", SIZE, bytes(32), Keys(), NOON)
    assert "wrong_log" in found(verify(files | {"checkpoint": other.encode()}, tmp_path))


def test_other_keys_in_the_export_are_not_believed(files: Files, tmp_path: Path) -> None:
    files["keys"] = Log(keys=Keys(9)).vkeys().encode()
    assert found(verify(resigned(files, Keys(9)), tmp_path)).keys() == {"signature_missing", "keys_differ"}
    assert found(verify(files | {"keys": b"nothing"}, tmp_path))["keys_malformed"]


# ---- a log that lies, with its own keys -----------------------------------------------------------------------------------
def test_history_rewritten_and_signed_again_is_caught_by_an_older_checkpoint(tmp_path: Path) -> None:
    log, _ = make()
    forged = Log(events(300) + events(1, first=300, actor="nobody") + events(SIZE - 301, first=301)).files()
    assert verify(forged, tmp_path).good  # signed by the true keys: only what somebody kept can tell
    detail = only(verify({}, tmp_path, Log(events(400)).checkpoint()), "history_rewritten")
    assert detail == "checkpoint 400 is not a prefix of checkpoint 700: history was rewritten (kept-0)"
    assert verify({}, tmp_path, Log(events(300)).checkpoint()).good  # what came before the change still holds
    assert only(verify({}, tmp_path, log.checkpoint()), "log_forked").startswith("two different logs of 700 entries are signed")


def test_a_kept_checkpoint_that_was_tampered_with_is_named(files: Files, tmp_path: Path) -> None:
    files["checkpoints/400"] = files["checkpoints/400"].replace(b"\n400\n", b"\n401\n")
    faults = [fault.code for fault in verify(files, tmp_path).faults]
    assert faults == ["signature_invalid", "signature_invalid", "checkpoint_misnamed"]


def test_a_kept_checkpoint_under_another_name_is_named(files: Files, tmp_path: Path) -> None:
    files["checkpoints/399"] = files.pop("checkpoints/400")
    assert "holds the checkpoint of size 400" in only(verify(files, tmp_path), "checkpoint_misnamed")


def test_a_checkpoint_dated_before_what_it_covers_is_named(tmp_path: Path) -> None:
    log = Log(events(SIZE) + [event.replace(b'"at":179', b'"at":180') for event in events(3, first=SIZE)])
    files = log.files()
    assert "dated" in only(verify(files, tmp_path), "checkpoint_backdated")
    later = log.checkpoint(at=1_800_000_001 + 1_000)
    assert verify({"checkpoint": later.encode()}, tmp_path).good


def test_only_the_events_that_a_checkpoint_covers_date_it(tmp_path: Path) -> None:
    log = Log(events(300))
    early = log.checkpoint()
    log.append(event.replace(b'"at":179', b'"at":180') for event in events(3, first=300))
    files = log.files([early]) | {"checkpoint": log.checkpoint(at=1_800_000_001 + 1_000).encode()}
    assert verify(files, tmp_path).good


def test_a_larger_checkpoint_dated_before_a_smaller_is_named(files: Files, tmp_path: Path) -> None:
    files["checkpoints/400"] = Log(events(400)).checkpoint(at=NOON + 500).encode()
    assert "checkpoint is dated before the smaller" in only(verify(files, tmp_path), "checkpoint_order")


def test_an_event_left_out_before_signing_is_seen_in_the_numbers(tmp_path: Path) -> None:
    files = Log(events(300) + events(SIZE - 301, first=301)).files()
    detail = only(verify(files, tmp_path), "id_order")
    assert detail == "entry 300 is numbered 301, but the number after its node's last event is 300"


def test_an_event_in_another_spelling_is_found_when_every_entry_is_parsed(tmp_path: Path) -> None:
    entries = events(SIZE)
    entries[300] = entries[300].replace(b'"op":"encrypt","outcome":"ok"', b'"outcome":"ok","op":"encrypt"')
    files = Log(entries).files()
    assert verify(files, tmp_path).good  # its hash is right: the default check does not parse
    assert "entry 300" in only(verify({}, tmp_path, strict=True), "not_an_event")

"""Exports whose author wants the verifier to hang, to crash, or to call checked what it never looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyclave.audit.checkpoint import sign_checkpoint
from keyclave.audit.tiles import decode_bundle, encode_bundle
from keyclave_verify.checkpoints import parse_trust
from keyclave_verify.directory import LogDirectory, parse_path
from keyclave_verify.log import verify_log
from keyclave_verify.report import Report, Unusable
from tests.unit.audit.logs import NOON, ORIGIN, Keys, Log, events, lay_down

pytestmark = pytest.mark.requirement("R5", "R7", "R40", "P2")

Files = dict[str, bytes]
LOG = Log(events(700))
EARLY = Log(events(400)).checkpoint()
FAR = "tile/entries/x999/x999/x999/999"
HUGE = b"\n9000000000000000000\n"


@pytest.fixture
def files() -> Files:
    return LOG.files([EARLY])


def verify(files: Files, folder: Path, *, strict: bool = False) -> Report:
    return verify_log(LogDirectory(lay_down(files, folder)), parse_trust(LOG.vkeys()), strict=strict)


def details(report: Report) -> list[str]:
    assert not report.good
    return [fault.detail for fault in report.faults]


def passed(report: Report) -> set[str]:
    """Return the checks that the report shows as held."""
    return {line.split()[1] for line in report.to_text(color=False).splitlines() if line.startswith("  ✓")}


# ---- sizes that nobody signed ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("far", [FAR, "tile/0/x999/x999/x999/999", "tile/7/000"])
def test_a_forged_size_costs_no_more_than_the_files_that_are_there(far: str, files: Files, tmp_path: Path) -> None:
    files |= {"checkpoint": files["checkpoint"].replace(b"\n700\n", HUGE), far: b"x"}
    began = time.monotonic()
    report = verify(files, tmp_path)
    assert time.monotonic() - began < 5
    assert "does not verify" in details(report)[0]
    assert passed(report).isdisjoint({"signatures", "length", "root", "history"})


def test_a_hole_is_one_fault_however_wide_and_what_lies_behind_it_is_looked_at(files: Files, tmp_path: Path) -> None:
    size = (999_999_999_999 + 1) * 256
    note = sign_checkpoint(ORIGIN, size, bytes(32), Keys(), NOON + 10)
    found = details(verify(files | {"checkpoint": note.encode(), FAR: encode_bundle(events(256))}, tmp_path))
    hole = "tile/entries/003 to tile/entries/x999/x999/x999/998 are missing, though the log goes on after them"
    assert hole in found
    assert "tile/0/003 to tile/0/x999/x999/x999/998 are missing" in found
    assert len(found) < 30


@pytest.mark.parametrize("name", ["tile/0/000.p/256", "tile/0/000.p/300", "tile/entries/000.p/999"])
def test_a_partial_file_is_never_wider_than_255(name: str, files: Files, tmp_path: Path) -> None:
    """Its first 256 hashes would else do for the full tile, and whatever follows them would be part of an intact log."""
    assert parse_path(name) is None
    whole = name.partition(".p/")[0]
    report = verify(files | {name: files[whole] + files[whole]}, tmp_path)
    assert details(report) == [f"{name} is no part of a log"]
    (tmp_path / whole).unlink()
    assert f"{whole} is missing" in "\n".join(details(verify({}, tmp_path)))


# ---- what was not checked -------------------------------------------------------------------------------------------------
def test_of_a_log_without_its_tail_nothing_is_called_checked_that_was_not(files: Files, tmp_path: Path) -> None:
    kept = {path: data for path, data in files.items() if "002" not in path}
    report = verify(kept, tmp_path)
    assert details(report) == ["the log ends at 512 but the checkpoint says 700"]
    assert passed(report) == {"signatures", "history"}
    assert "- root        not checked" in report.to_text(color=False)
    assert '"name": "root",\n      "good": null,\n      "covered": "not checked"' in report.to_json()


@pytest.mark.parametrize(
    ("gone", "unseen"),
    [
        ("tile/0/", {"entries", "tiles", "root", "length", "history"}),
        ("tile/1/", {"tiles", "root", "length"}),
        ("tile/entries/001", {"entries", "events", "length"}),
    ],
)
def test_what_is_missing_takes_the_checks_with_it_that_need_it(gone: str, unseen: set[str], files: Files, tmp_path: Path) -> None:
    report = verify({path: data for path, data in files.items() if not path.startswith(gone)}, tmp_path)
    assert passed(report).isdisjoint(unseen)


def test_a_checkpoint_that_is_none_leaves_everything_unchecked(files: Files, tmp_path: Path) -> None:
    report = verify(files | {"checkpoint": b"nothing"}, tmp_path)
    assert passed(report) == set()
    assert set(report.checks) == {"signatures", "entries", "events", "tiles", "length", "root", "history"}


def test_faults_without_number_hide_none_of_another_check(tmp_path: Path) -> None:
    log = Log(events(12_000))
    files = log.files([Log(events(5000, actor="nobody")).checkpoint()])
    for path in [path for path in files if path.startswith("tile/entries/")]:
        files[path] = encode_bundle([entry.replace(b'"ok"', b'"no"') for entry in decode_bundle(files[path])])
    report = verify(files, tmp_path)
    assert report.fault_count == 12_001
    assert report.left_out == 2_000
    assert "history_rewritten" in {fault.code for fault in report.faults}
    text = report.to_text(color=False)
    assert "✗ history" in text and "checkpoint 5000 is not a prefix" in text and "lists the first 10,000 of each check" in text
    assert '"faults_left_out": 2000' in report.to_json()
    assert '"name": "history",\n      "good": false' in report.to_json()


@pytest.mark.parametrize("at", [b"9790", b"1890", b"1690"])
def test_one_changed_digit_of_a_time_is_one_fault(at: bytes, tmp_path: Path) -> None:
    files = Log(events(1_000)).files()
    files["tile/entries/000"] = files["tile/entries/000"].replace(b'"at":1790', b'"at":' + at, 1)
    assert details(verify(files, tmp_path)) == ["entry 0 does not match its hash in tile/0/000"]


# ---- files that are none --------------------------------------------------------------------------------------------------
def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


ODD = {
    "a pipe": replaced(os.mkfifo),
    "a device": replaced(lambda path: path.symlink_to("/dev/zero")),
    "a link to nothing": replaced(lambda path: path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_never_opened(kind: str, files: Files, tmp_path: Path) -> None:
    lay_down(files, tmp_path)
    for path in ("tile/entries/000", "tile/0/001", "checkpoints/400"):
        ODD[kind](tmp_path / path)
    found = details(verify({}, tmp_path))
    for path in ("tile/entries/000", "tile/0/001", "checkpoints/400"):
        assert f"{path} is no regular file" in found


@pytest.mark.parametrize("path", ["checkpoint", "keys"])
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_papers_that_are_no_regular_files_cannot_be_read(kind: str, path: str, files: Files, tmp_path: Path) -> None:
    lay_down(files, tmp_path)
    ODD[kind](tmp_path / path)
    with pytest.raises(Unusable, match="it is no regular file"):
        verify({}, tmp_path)


@pytest.mark.parametrize("path", ["tile/0/000", "tile/entries/000", "checkpoint", "keys"])
def test_of_a_file_of_terabytes_only_the_beginning_is_read(path: str, files: Files, tmp_path: Path) -> None:
    lay_down(files, tmp_path)
    os.truncate(tmp_path / path, 1 << 42)
    said = {"tile/0/000": "more than 8,192 bytes, not 8,192", "checkpoint": "longer than", "keys": "verifier keys"}
    assert said.get(path, path) in "\n".join(details(verify({}, tmp_path)))


@pytest.mark.parametrize("folder", ["checkpoints", "tile/entries"])
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(
    folder: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_down(files, tmp_path)
    scandir = os.scandir

    def guarded(path: Path) -> object:
        if path == tmp_path / folder:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(Unusable, match=f"{folder}: cannot be read: Permission denied"):
        verify({}, tmp_path)


@pytest.mark.parametrize("folder", ["checkpoints", "tile"])
@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")], ids=["file", "link"])
def test_a_file_in_the_place_of_a_folder_is_not_an_empty_one(folder: str, make: Callable[[Path], object], tmp_path: Path) -> None:
    lay_down({path: data for path, data in LOG.files().items() if not path.startswith(folder)}, tmp_path)
    make(tmp_path / folder)
    with pytest.raises(Unusable, match=f"{folder}: cannot be read"):
        verify({}, tmp_path)


# ---- entries and keys -----------------------------------------------------------------------------------------------------
DEEP = b"[" * 600 + b"]" * 600


@pytest.mark.parametrize(
    "entry",
    [
        b'{"at":1,"id":"n1-' + b"9" * 5000 + b'"}',
        b'{"at":' + b"9" * 5000 + b',"id":"n1-5"}',
        b'{"at":1,"d":' + DEEP + b',"id":"n1-5"}',
        '{"at":1,"d":{"é":'.encode() + DEEP + b'},"id":"n1-5"}',
        '{"at":1,"d":{"é":1,"\\ud800":1},"id":"n1-5"}'.encode(),
        b'{"at":1,"detail":"ann","id":"n1-5"}',
        b"\xff",
        b"",
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_an_entry_made_to_be_unreadable_is_named(entry: bytes, strict: bool, files: Files, tmp_path: Path) -> None:
    entries = decode_bundle(files["tile/entries/000"])
    entries[5] = entry
    files["tile/entries/000"] = encode_bundle(entries)
    assert details(verify(files, tmp_path, strict=strict)) == ["entry 5 does not match its hash in tile/0/000"]


@pytest.mark.parametrize(
    "keys", [b'{"origin":' + b"[" * 100_000, b"{}", b'{"origin":"x","vkeys":5}', b'{"origin":' + b"9" * 5000 + b"}", b"\xff", b""]
)
def test_keys_made_to_be_unreadable_are_named(keys: bytes, files: Files, tmp_path: Path) -> None:
    (found,) = details(verify(files | {"keys": keys}, tmp_path))
    assert found.startswith("the file keys in the export holds no verifier keys: ")


def test_entries_of_the_greatest_length_are_read_whole(tmp_path: Path) -> None:
    log = Log(b"%05d" % number + bytes(65_530) for number in range(256))
    report = verify_log(LogDirectory(lay_down(log.files(), tmp_path)), parse_trust(log.vkeys()), opaque=True)
    assert report.good
    assert len(LogDirectory(tmp_path).read("tile/entries/000") or b"") == 256 * 65_537

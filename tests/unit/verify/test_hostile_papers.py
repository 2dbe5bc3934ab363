"""Keys, checkpoints, receipts and proofs that were damaged on their way, or made to crash a reader: each is named in plain words."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keyclave.audit.checkpoint import sign_checkpoint
from keyclave.audit.proofs import prove_consistency, prove_inclusion
from keyclave.audit.receipt import encode_receipt
from keyclave_verify.main import main
from tests.unit.audit.logs import NOON, ORIGIN, Keys, Log, events

pytestmark = pytest.mark.requirement("R5", "R7", "R40")

LOG = Log(events(700))
NOTE = LOG.checkpoint()
OLD = Log(events(400)).checkpoint()
PROOF = encode_receipt(333, prove_inclusion(333, 700, LOG.read_tile), NOTE)
RECEIPT = {"event": "n1-333", "index": 333, "leaf": base64.b64encode(LOG.entries[333]).decode(), "proof": PROOF}
BOM = b"\xef\xbb\xbf"
LINES = NOTE.split("\n")

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return the command in a folder of papers: content of the file `given`, arguments -> (exit status, all that it said)."""
    monkeypatch.chdir(tmp_path)
    Path("vkeys").write_text(LOG.vkeys())
    Path("old").write_text(OLD)
    Path("new").write_text(NOTE)

    def command(given: bytes | str, *arguments: str) -> tuple[int, str]:
        Path("given").write_bytes(given if isinstance(given, bytes) else given.encode())
        status = main(arguments)
        shown = capsys.readouterr()
        return status, shown.out + shown.err

    return command


UNREADABLE_KEYS: dict[str, tuple[bytes, str]] = {
    "nested": (b'{"origin":' + b"[" * 100_000, "nested deeper than 64 levels"),
    "no vkeys": (b"{}", 'not the server\'s {"origin", "vkeys"}'),
    "odd vkeys": (b'{"origin":"x","vkeys":[1]}', 'not the server\'s {"origin", "vkeys"}'),
    "half a pair": (b'{"origin":"\\ud800","vkeys":[]}', "half of a surrogate pair"),
    "long number": (b'{"origin":' + b"9" * 5000 + b"}", "not exact in every JSON reader"),
    "byte order mark": (BOM + LOG.vkeys().encode(), "begins with a byte order mark"),
    "not text": (b"\xff\xfe", "not UTF-8 text"),
    "empty": (b"", "holds no key: give"),
    "flipped": (LOG.vkeys().replace("A", "B", 3).encode(), "copy it again, whole"),
}


@pytest.mark.parametrize("name", UNREADABLE_KEYS)
def test_keys_that_cannot_be_read(name: str, run: Run) -> None:
    raw, words = UNREADABLE_KEYS[name]
    status, said = run(raw, "checkpoint", "new", "--vkey-file", "given")
    assert status == 2
    assert "given: these verifier keys cannot be used: " in said and words in said


BROKEN_NOTES: dict[str, tuple[bytes | str, str]] = {
    "CR LF": (NOTE.replace("\n", "\r\n"), "its lines end in CR LF"),
    "byte order mark": (BOM + NOTE.encode(), "begins with a byte order mark"),
    "extension line": ("\n".join([*LINES[:3], "more", *LINES[3:]]), "it states 4 lines, not origin, size and root alone"),
    "line at the end": (NOTE + "\n", "it states 6 lines"),
    "no root": ("\n".join([*LINES[:2], *LINES[3:]]), "it states 2 lines"),
    "many signatures": ("\n".join([*LINES[:-1], *LINES[4:5] * 99, ""]), "it has 101 signature lines, and 64 are read"),
    "a tab": (NOTE.replace("\u2014 ", "\u2014"), "a signature line is broken"),
    "empty": ("", "it is empty"),
}


@pytest.mark.parametrize("name", BROKEN_NOTES)
def test_checkpoints_that_cannot_be_read(name: str, run: Run) -> None:
    raw, words = BROKEN_NOTES[name]
    status, said = run(raw, "checkpoint", "given", "--vkey-file", "vkeys")
    assert status == 1
    assert words in said
    assert "✓" not in said


BROKEN_RECEIPTS: dict[str, tuple[object, str]] = {
    "half a pair in the proof": (RECEIPT | {"proof": PROOF + "\ud800"}, "half of a surrogate pair"),
    "half a pair for the event": (RECEIPT | {"event": "\ud800"}, "half of a surrogate pair"),
    "index as text": (RECEIPT | {"index": "333"}, "event, index, leaf and proof, texts and a whole number"),
    "index as truth": (RECEIPT | {"index": True}, "event, index, leaf and proof, texts and a whole number"),
    "no leaf": (RECEIPT | {"leaf": None}, "event, index, leaf and proof, texts and a whole number"),
    "index twice": (b'{"index":1,' + json.dumps(RECEIPT).encode()[1:], "a name is there twice"),
    "long number": (b'{"index":' + b"9" * 5000 + b"," + json.dumps(RECEIPT).encode()[1:], "not exact in every JSON reader"),
    "nested": (b'{"leaf":' + b"[" * 100_000, "nested deeper than 64 levels"),
    "byte order mark": (BOM + json.dumps(RECEIPT).encode(), "begins with a byte order mark"),
    "empty": (b"", "it is empty"),
    "a list": (b"[]", "neither the server's JSON nor a proof"),
    "null": (b"null", "neither the server's JSON nor a proof"),
    "a checkpoint": (NOTE.encode(), "neither the server's JSON nor a proof"),
    "CR LF": (RECEIPT | {"proof": PROOF.replace("\n", "\r\n")}, "its lines end in CR LF"),
    "not JSON": (b"{", "it is not JSON (line 1, column 2)"),
}


@pytest.mark.parametrize("name", BROKEN_RECEIPTS)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_receipts_that_cannot_be_read(name: str, form: tuple[str, ...], run: Run) -> None:
    """None of the checks is shown as made, in either form."""
    given, words = BROKEN_RECEIPTS[name]
    raw = given if isinstance(given, bytes) else json.dumps(given).encode()
    status, said = run(raw, "receipt", "given", "--vkey-file", "vkeys", *form)
    assert status == 1
    if form:
        answer = json.loads(said)
        assert words in answer["faults"][0]["detail"]
        assert [(check["name"], check["good"]) for check in answer["checks"]] == [
            ("signatures", None), ("inclusion", False), ("event", None),
        ]  # fmt: skip
    else:
        assert "✓" not in said and "- signatures  not checked" in said


def test_what_is_told_of_standard_input_has_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO()}))
    assert "standard input is not a receipt: it is empty" in run("", "receipt", "-", "--vkey-file", "vkeys")[1]


# ---- consistency ----------------------------------------------------------------------------------------------------------
HASHES = [base64.b64encode(node).decode() for node in prove_consistency(400, 700, LOG.read_tile)]
GOOD = {"from": 400, "to": 700, "proof": HASHES}
FORM = 'it is not the server\'s {"from", "to", "proof"}'


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (GOOD | {"proof": None}, FORM),
        (GOOD | {"proof": [[]]}, FORM),
        (GOOD | {"from": True}, FORM),
        (GOOD | {"proof": ["\ud800"]}, "half of a surrogate pair"),
        (b'{"from":' + b"[" * 100_000, "nested deeper"),
        (b"\xff", "not UTF-8 text"),
        (GOOD | {"from": 401}, "from 401 to 700, not from 400 to 700: fetch one for these two"),
    ],
)
def test_proofs_that_cannot_be_read(given: object, words: str, run: Run) -> None:
    raw = given if isinstance(given, bytes) else json.dumps(given).encode()
    status, said = run(raw, "consistency", "old", "new", "--proof", "given", "--vkey-file", "vkeys")
    assert status == 1
    assert "the proof cannot be read: " in said and words in said


def test_a_larger_checkpoint_that_is_dated_before_the_smaller_is_a_fault(run: Run) -> None:
    early = sign_checkpoint(ORIGIN, 700, LOG.tree.root(), Keys(), NOON - 100)
    Path("proof").write_text(json.dumps(GOOD))
    arguments = ("consistency", "old", "given", "--proof", "proof", "--vkey-file", "vkeys")
    assert run(NOTE, *arguments)[0] == 0
    status, said = run(early, *arguments)
    assert status == 1
    assert "given is dated before the smaller old" in said


def test_two_checkpoints_of_one_size_and_two_roots_are_a_fork(run: Run) -> None:
    fork = sign_checkpoint(ORIGIN, 700, bytes(32), Keys(), NOON + 9)
    status, said = run(fork, "consistency", "new", "given", "--vkey-file", "vkeys")
    assert status == 1
    assert "two different logs of 700 entries are signed (new and given): the log has forked" in said
    later = sign_checkpoint(ORIGIN, 700, LOG.tree.root(), Keys(), NOON - 9)
    assert run(later, "consistency", "new", "given", "--vkey-file", "vkeys")[0] == 0


# ---- files ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge", "absent"])
@pytest.mark.parametrize("command", ["receipt", "approval", "checkpoint"])
def test_what_is_no_paper_is_not_read(command: str, kind: str, run: Run) -> None:
    make: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo("odd"),
        "device": lambda: os.symlink("/dev/zero", "odd"),
        "folder": lambda: os.mkdir("odd"),
        "huge": lambda: (Path("odd").touch(), os.truncate("odd", 1 << 42)),
        "absent": lambda: None,
    }
    make[kind]()
    status, said = run("", command, "odd", "--vkey-file", "vkeys")
    assert status == 2
    assert said.startswith("keyclave-verify: odd: cannot be read: ")

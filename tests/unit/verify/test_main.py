"""The command `keyclave-verify`: what it answers, in words and in JSON, and with which exit status."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyclave.audit.note import ED25519, parse_vkey
from keyclave.audit.proofs import prove_consistency, prove_inclusion
from keyclave.audit.receipt import encode_receipt
from keyclave_verify.main import main
from tests.unit.audit.logs import ORIGIN, Keys, Log, events, lay_down

SIZE = 600
LOG = Log(events(SIZE))
OLD = Log(events(400)).checkpoint()

pytestmark = pytest.mark.requirement("R5", "R7", "R40")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a log, its keys, and papers; it is the working folder."""
    lay_down(LOG.files([OLD]), tmp_path / "log")
    papers = {"vkeys": LOG.vkeys(), "old": OLD, "new": LOG.checkpoint(), "receipt.json": json.dumps(receipt(300))}
    papers["receipt.tlog-proof"] = str(receipt(300)["proof"])
    papers["other-vkeys"] = Log(keys=Keys(9)).vkeys()
    for name, text in papers.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "leaf").write_bytes(LOG.entries[300])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return the command, run in that folder: arguments -> (exit status, output, errors)."""

    def command(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(arguments)
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            status = stop.code
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return command


def receipt(index: int) -> dict[str, Any]:
    """Return a receipt as the server answers it."""
    proof = encode_receipt(index, prove_inclusion(index, SIZE, LOG.read_tile), LOG.checkpoint())
    return {"event": f"n1-{index}", "index": index, "leaf": base64.b64encode(LOG.entries[index]).decode(), "proof": proof}


# ---- log ------------------------------------------------------------------------------------------------------------------
def test_a_good_log(run: Run) -> None:
    status, out, _ = run("log", "log", "--vkey-file", "vkeys", "--checkpoint", "old")
    assert status == 0
    assert out.splitlines()[0] == ORIGIN
    assert out.splitlines()[-1] == "The log is intact."
    assert "600 entries" in out and "2 earlier checkpoints" in out and "✗" not in out
    assert "\x1b" not in out  # no colour where nobody looks


def test_a_good_log_in_json(run: Run) -> None:
    status, out, _ = run("log", "log", "--vkey-file", "vkeys", "--json", "--strict")
    answer = json.loads(out)
    assert status == 0
    assert answer["good"] is True
    assert (answer["origin"], answer["size"], answer["root"]) == (ORIGIN, SIZE, LOG.tree.root().hex())
    assert answer["faults"] == []
    names = ["signatures", "entries", "events", "tiles", "length", "root", "history"]
    assert [check["name"] for check in answer["checks"]] == names
    assert all(check["good"] for check in answer["checks"])


def test_a_tampered_log(run: Run, here: Path) -> None:
    bundle = here / "log/tile/entries/001"
    bundle.write_bytes(bundle.read_bytes().replace(b'"outcome":"ok"', b'"outcome":"no"', 30))
    status, out, _ = run("log", "log", "--vkey-file", "vkeys")
    assert status == 1
    assert "✗ entries" in out and "✓ signatures" in out
    assert "fault  entry 256 does not match its hash in tile/0/001" in out
    assert "and 10 more faults" in out
    assert out.splitlines()[-1].startswith("30 faults found. Do not rely on this copy")
    answer = json.loads(run("log", "log", "--vkey-file", "vkeys", "--json")[1])
    assert (answer["good"], answer["fault_count"], len(answer["faults"])) == (False, 30, 30)
    assert answer["faults"][0].keys() == {"check", "code", "detail"}


def test_a_log_by_other_keys(run: Run) -> None:
    status, out, _ = run("log", "log", "--vkey-file", "other-vkeys")
    assert status == 1
    assert "carries no signature of keyclave.example/log by its key Ed25519" in out


def test_entries_that_are_no_events_need_to_be_told(run: Run, here: Path) -> None:
    lay_down(Log(b"event %d" % number for number in range(300)).files(), here / "plain")
    assert run("log", "plain", "--vkey-file", "vkeys")[0] == 1
    status, out, _ = run("log", "plain", "--vkey-file", "vkeys", "--opaque")
    assert status == 0
    assert "events" not in out


@pytest.mark.parametrize("kind", ["comments", "json", "ed25519 only"])
def test_the_ways_to_write_the_keys(kind: str, run: Run, here: Path) -> None:
    lines = LOG.vkeys().splitlines()
    texts = {
        "comments": "# from the vendor, by post\n\n" + "\r\n".join(lines),
        "json": json.dumps({"origin": ORIGIN, "vkeys": lines}),
        "ed25519 only": next(line for line in lines if parse_vkey(line).type == ED25519),
    }
    (here / "k").write_text(texts[kind])
    (here / "log/keys").write_text(texts[kind])
    assert run("log", "log", "--vkey-file", "k")[0] == 0


# ---- receipt --------------------------------------------------------------------------------------------------------------
def test_a_good_receipt(run: Run) -> None:
    for arguments in (("receipt.json",), ("receipt.tlog-proof", "--leaf", "leaf"), ("receipt.json", "--leaf", "leaf")):
        status, out, _ = run("receipt", *arguments, "--vkey-file", "vkeys")
        assert status == 0
        assert "entry 300 of 600" in out
        assert "n1-300: encrypt by ward-7, ok, 2026-09-21" in out
        assert out.splitlines()[-1] == "The receipt proves that the event is in the log."
    answer = json.loads(run("receipt", "receipt.json", "--vkey-file", "vkeys", "--json")[1])
    assert answer["event"]["id"] == "n1-300"


def test_a_receipt_on_standard_input(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO((here / "receipt.json").read_bytes()))
    monkeypatch.setattr(sys, "stdin", given)
    assert run("receipt", "-", "--vkey-file", "vkeys")[0] == 0


TAMPERED: dict[str, tuple[dict[str, Any], str]] = {
    "other event": (receipt(300) | {"leaf": receipt(301)["leaf"], "event": "n1-301"}, "not_included"),
    "other place": (receipt(300) | {"index": 301}, "index_differs"),
    "other id": (receipt(300) | {"event": "n1-301"}, "event_differs"),
    "other proof": (receipt(300) | {"proof": receipt(301)["proof"]}, "not_included"),
    "other index line": (receipt(300) | {"proof": receipt(300)["proof"].replace("index 300", "index 301")}, "not_included"),
    "other size": (receipt(300) | {"proof": receipt(300)["proof"].replace("\n600\n", "\n601\n")}, "signature_invalid"),
    "no proof": ({"event": "n1-300", "index": 300, "leaf": receipt(300)["leaf"]}, "receipt_malformed"),
    "no base64": (receipt(300) | {"leaf": "%"}, "receipt_malformed"),
    "hash cut": (receipt(300) | {"proof": receipt(300)["proof"].replace("=\n", "\n", 1)}, "receipt_malformed"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_receipt(name: str, run: Run, here: Path) -> None:
    document, code = TAMPERED[name]
    (here / "receipt.json").write_text(json.dumps(document))
    status, out, _ = run("receipt", "receipt.json", "--vkey-file", "vkeys", "--json")
    assert status == 1
    assert code in [fault["code"] for fault in json.loads(out)["faults"]]


def test_a_receipt_of_another_log_or_entry(run: Run, here: Path) -> None:
    assert run("receipt", "receipt.json", "--vkey-file", "other-vkeys")[0] == 1
    (here / "leaf").write_bytes(LOG.entries[301])
    for file in ("receipt.json", "receipt.tlog-proof"):
        assert run("receipt", file, "--vkey-file", "vkeys", "--leaf", "leaf")[0] == 1


def test_a_receipt_for_something_that_is_no_event(run: Run, here: Path) -> None:
    plain = Log([b"one", b"two"])
    (here / "r").write_text(encode_receipt(1, prove_inclusion(1, 2, plain.read_tile), plain.checkpoint()))
    (here / "leaf").write_bytes(b"two")
    assert run("receipt", "r", "--vkey-file", "vkeys", "--leaf", "leaf")[0] == 1
    assert run("receipt", "r", "--vkey-file", "vkeys", "--leaf", "leaf", "--opaque")[0] == 0


def test_what_a_file_says_cannot_steer_the_terminal(run: Run, here: Path) -> None:
    sly = Log(events(2, actor="\x1b[2Jnobody\u202e"))
    text = encode_receipt(1, prove_inclusion(1, 2, sly.read_tile), sly.checkpoint())
    leaf = base64.b64encode(sly.entries[1]).decode()
    (here / "receipt.json").write_text(json.dumps({"event": "\x1b[1m", "index": 1, "leaf": leaf, "proof": text}))
    status, out, _ = run("receipt", "receipt.json", "--vkey-file", "vkeys")
    assert status == 1
    assert "\\x1b[2Jnobody\\u202e" in out
    assert all(c.isprintable() or c == "\n" for c in out)


# ---- consistency ----------------------------------------------------------------------------------------------------------
def proof_files(here: Path) -> None:
    """Write a consistency proof in both forms."""
    hashes = [base64.b64encode(node).decode() for node in prove_consistency(400, SIZE, LOG.read_tile)]
    (here / "proof.json").write_text(json.dumps({"from": 400, "to": SIZE, "proof": hashes}))
    (here / "proof.txt").write_text("\n".join(hashes) + "\n")


@pytest.mark.parametrize("source", [("--proof", "proof.json"), ("--proof", "proof.txt"), ("--log", "log")])
def test_consistency(source: tuple[str, str], run: Run, here: Path) -> None:
    proof_files(here)
    status, out, _ = run("consistency", "old", "new", *source, "--vkey-file", "vkeys")
    assert status == 0
    assert out.splitlines()[-1] == "The log of 400 entries is the beginning of the log of 600."
    fork = Log(events(399) + events(1, first=399, actor="nobody"))
    (here / "old").write_text(fork.checkpoint())
    status, out, _ = run("consistency", "old", "new", *source, "--vkey-file", "vkeys")
    assert status == 1
    assert "checkpoint 400 is not a prefix of checkpoint 600: history was rewritten" in out


def test_consistency_the_wrong_way_round_or_with_a_wrong_proof(run: Run, here: Path) -> None:
    proof_files(here)
    assert run("consistency", "new", "old", "--proof", "proof.json", "--vkey-file", "vkeys")[0] == 1
    for text in ("", "AAAA", "%", "{}", '{"from":1,"to":600,"proof":[]}', '{"from":400,"to":600,"proof":[1]}'):
        (here / "proof.json").write_text(text)
        assert run("consistency", "old", "new", "--proof", "proof.json", "--vkey-file", "vkeys")[0] == 1
    (here / "log/tile/0/001").unlink()
    assert run("consistency", "old", "new", "--log", "log", "--vkey-file", "vkeys")[0] == 1


def test_a_checkpoint_is_consistent_with_itself_without_a_proof(run: Run) -> None:
    assert run("consistency", "new", "new", "--vkey-file", "vkeys")[0] == 0
    status, _, err = run("consistency", "old", "new", "--vkey-file", "vkeys")
    assert status == 2
    assert "--proof" in err and "--log" in err


# ---- checkpoint -----------------------------------------------------------------------------------------------------------
def test_a_checkpoint(run: Run, here: Path) -> None:
    status, out, _ = run("checkpoint", "new", "--vkey-file", "vkeys")
    assert status == 0
    assert "600 entries at 2026-09-21" in out and LOG.tree.root().hex() in out
    (here / "new").write_text(LOG.checkpoint().replace("\n600\n", "\n599\n"))
    assert run("checkpoint", "new", "--vkey-file", "vkeys")[0] == 1
    (here / "new").write_text("nothing")
    status, out, _ = run("checkpoint", "new", "--vkey-file", "vkeys", "--json")
    assert (status, json.loads(out)["faults"][0]["code"]) == (1, "checkpoint_malformed")


# ---- what cannot be done --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("log",),
        ("log", "log"),
        ("fly", "--vkey-file", "vkeys"),
        ("log", "nowhere", "--vkey-file", "vkeys"),
        ("log", "log", "--vkey-file", "nowhere"),
        ("log", "log", "--vkey-file", "leaf"),
        ("log", "log", "--vkey-file", "vkeys", "--checkpoint", "nowhere"),
        ("log", "log", "--vkey-file", "vkeys", "--strict", "--opaque"),
        ("receipt", "receipt.tlog-proof", "--vkey-file", "vkeys"),
        ("consistency", "old", "new", "--proof", "a", "--log", "b", "--vkey-file", "vkeys"),
        ("checkpoint", "nowhere", "--vkey-file", "vkeys"),
    ],
)
def test_what_cannot_be_done_is_said_and_is_no_verdict(arguments: tuple[str, ...], run: Run) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert err


def test_it_runs_without_the_server(here: Path, repository: Path) -> None:
    """The verifier imports nothing of Keyclave's server, whose packages are not even there to be found."""
    program = (
        "import sys; sys.modules['keyclave'] = None; sys.modules['msgspec'] = None; sys.path.insert(0, sys.argv.pop(1));"
        "from keyclave_verify.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, str(repository / "src"), "log", "log", "--vkey-file", "vkeys"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("The log is intact.\n")

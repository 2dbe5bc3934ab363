"""A third party's judgement: the Go project's transparency-log packages accept what we make and refuse what was tampered with.

golang.org/x/mod/sumdb/note and …/tlog check the checksum database of every Go installation and share no code with ours.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from keyclave.audit.note import ED25519, parse_vkey
from keyclave.audit.proofs import prove_consistency, prove_inclusion, tree_root
from tests.unit.audit.logs import Keys, Log, events

PROGRAM = Path(__file__).parent / "go_tlog" / "main.go"
GOPATH = Path("/usr/share/gocode")
GO_PLACES = ("/usr/lib/go-1.19/bin/go", "/usr/lib/go/bin/go")
MISSING = "install a Go compiler and its x/mod library: apt-get install golang-1.19-go golang-1.19-src golang-golang-x-mod-dev"
SIZES = (0, 1, 2, 3, 255, 256, 257, 300, 511, 513, 700)

pytestmark = pytest.mark.requirement("R5", "R7", "R40")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program, built offline. A machine without Go fails: this is the only judge that shares nothing with us."""
    go = shutil.which("go") or next((place for place in GO_PLACES if Path(place).exists()), None)
    if go is None or not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.fail(MISSING)
    folder = tmp_path_factory.mktemp("go")
    binary = folder / "judge"
    settings = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(folder / "cache"), "GOFLAGS": "", "CGO_ENABLED": "0"}
    built = subprocess.run(
        [go, "build", "-o", str(binary), str(PROGRAM)], env=os.environ | settings, capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, f"{built.stderr}\n{MISSING}"
    return binary


def ask(judge: Path, **questions: Any) -> dict[str, Any]:
    """Put questions to the program and return its answers."""
    whole = {"leaves": [], "sizes": [], "notes": [], "inclusion": [], "consistency": []} | questions
    asked = subprocess.run([str(judge)], input=json.dumps(whole), capture_output=True, text=True, timeout=120)
    assert asked.returncode == 0, asked.stderr
    answers: dict[str, Any] = json.loads(asked.stdout)
    return answers


def b64(data: bytes) -> str:
    """Return base64, which is how Go reads bytes in JSON."""
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def log() -> Log:
    """Return a log of 700 events."""
    return Log(events(700))


def test_it_computes_the_same_roots(judge: Path, log: Log) -> None:
    answers = ask(judge, leaves=[b64(entry) for entry in log.entries], sizes=SIZES)
    sizes = [size for size in SIZES if size]  # x/mod has its own value for the empty tree
    assert {size: answers["roots"][str(size)] for size in sizes} == {size: b64(tree_root(size, log.read_tile)) for size in sizes}


def test_it_opens_our_checkpoints_and_no_tampered_one(judge: Path, log: Log) -> None:
    vkey = next(line for line in log.vkeys().splitlines() if parse_vkey(line).type == ED25519)
    other = next(line for line in Log(keys=Keys(7)).vkeys().splitlines() if parse_vkey(line).type == ED25519)
    note = log.checkpoint()
    text, signatures = note.split("\n\n")
    tampered = [
        note.replace("\n700\n", "\n701\n"),
        note.replace("keyclave.example/log\n700", "keyclave.example/other\n700"),
        text + "\n\n" + "\n".join(signatures.splitlines()[1:]) + "\n",  # only the ML-DSA line, which this judge does not know
    ]
    answers = ask(judge, notes=[{"vkey": vkey, "note": n} for n in (note, *tampered)] + [{"vkey": other, "note": note}])
    assert answers["notes"][0] == ""
    assert all(answers["notes"][1:]), answers["notes"]


def test_it_accepts_our_inclusion_proofs_and_no_tampered_one(judge: Path, log: Log) -> None:
    good: list[dict[str, Any]] = []
    for size in SIZES[1:]:
        root = b64(tree_root(size, log.read_tile))
        for index in sorted({0, 1, size // 2, 254, 255, 256, size - 1}):
            if index < size:
                proof = [b64(node) for node in prove_inclusion(index, size, log.read_tile)]
                good.append({"index": index, "size": size, "leaf": b64(log.entries[index]), "root": root, "proof": proof})
    bad = [case | {"leaf": b64(b"another entry")} for case in good]
    bad += [case | {"proof": [*case["proof"], b64(bytes(32))]} for case in good]
    bad += [case | {"proof": [b64(bytes(32)), *case["proof"][1:]]} for case in good if case["proof"]]
    answers = ask(judge, inclusion=good + bad)["inclusion"]
    assert answers[: len(good)] == [""] * len(good)
    assert all(answers[len(good) :])


def test_it_accepts_our_consistency_proofs_and_no_tampered_one(judge: Path, log: Log) -> None:
    good: list[dict[str, Any]] = []
    roots = {size: b64(tree_root(size, log.read_tile)) for size in SIZES}
    for new in SIZES[1:]:
        for old in (size for size in SIZES[1:] if size <= new):
            proof = [b64(node) for node in prove_consistency(old, new, log.read_tile)]
            good.append({"old": old, "new": new, "old_root": roots[old], "new_root": roots[new], "proof": proof})
    bad = [case | {"old_root": b64(bytes(32))} for case in good]
    bad += [case | {"proof": [b64(bytes(32)), *case["proof"][1:]]} for case in good if case["proof"]]
    bad += [case | {"proof": case["proof"][:-1]} for case in good if case["proof"]]
    answers = ask(judge, consistency=good + bad)["consistency"]
    assert answers[: len(good)] == [""] * len(good)
    assert all(answers[len(good) :])

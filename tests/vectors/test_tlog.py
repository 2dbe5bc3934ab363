"""The transparency-log vectors: paths, hashes, proofs and signatures, by the server's room and by the verifier alike."""

from __future__ import annotations

import base64
import runpy
from hashlib import sha256
from pathlib import Path

import pytest

from keyclave.audit import proofs
from keyclave.audit.checkpoint import parse_checkpoint
from keyclave.audit.note import ED25519, Note, Signature, parse_note, parse_vkey
from keyclave.audit.tiles import WIDTH, bundle_path, parse_path, tile_path, tile_width, tree_tiles
from keyclave.audit.tree import CompactRange
from keyclave.core.errors import Malformed
from keyclave.crypto.digest import leaf_hash
from keyclave_verify import checkpoints, directory, merkle
from tests.unit.audit.logs import ORIGIN, Keys, Log
from tests.vectors.paragraphs import FOLDER, Paragraph, read

(LOG,) = read("tlog/log-300.txt")
PUBLISHED = read("tlog/published.txt")
NOTES = [p for p in PUBLISHED if "note" in p]
(TREE,) = [p for p in PUBLISHED if "entry" in p]
LEAVES = [b"event %d" % number for number in range(300)]

pytestmark = pytest.mark.requirement("R5", "R7", "R40")


def note_text(vector: Paragraph, name: str = "note") -> str:
    """Return the lines of a note as a text."""
    return "".join(line + "\n" for line in vector.all(name))


def test_make_writes_the_committed_files_again(tmp_path: Path) -> None:
    runpy.run_path(str(FOLDER / "tlog" / "make.py"))["main"](tmp_path)
    for name in ("log-300.txt", "proofs.txt"):
        assert (tmp_path / name).read_text() == (FOLDER / "tlog" / name).read_text()


# ---- published by others --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("vector", NOTES, ids=str)
def test_a_published_note_is_read_and_written_again(vector: Paragraph) -> None:
    note = parse_note(note_text(vector))
    key = parse_vkey(vector["vkey"])
    assert str(note) == note_text(vector)
    assert str(key) == vector["vkey"]
    assert [(s.name, s.key_id) for s in note.signatures] == [(key.name, key.id)]


@pytest.mark.parametrize("vector", [n for n in NOTES if "mldsa" not in n["vkey"]], ids=str)
def test_a_published_ed25519_signature_verifies(vector: Paragraph) -> None:
    note = parse_note(note_text(vector))
    key = checkpoints.parse_vkey(vector["vkey"])
    signatures = tuple((s.name, s.key_id, s.payload) for s in note.signatures)
    trust = checkpoints.Trust("not a checkpoint", (key,))
    signed = checkpoints.Checkpoint("not a checkpoint", 0, bytes(32), note.text, signatures, "the note")
    assert checkpoints.signature_faults(signed, trust) == []
    (fault,) = checkpoints.signature_faults(
        checkpoints.Checkpoint("not a checkpoint", 0, bytes(32), note.text + "\n", signatures, "the note"), trust
    )
    assert fault.code == "signature_invalid"


def test_the_published_mldsa44_checkpoint_verifies() -> None:
    (vector,) = [n for n in NOTES if "mldsa" in n["vkey"]]
    trust = checkpoints.parse_trust(vector["vkey"])
    raw = note_text(vector).encode()
    checkpoint = checkpoints.parse_checkpoint(raw, "published")
    assert checkpoints.signature_faults(checkpoint, trust) == []
    assert checkpoint.time(trust) is None  # timestamp 0 claims none
    forged = checkpoints.parse_checkpoint(raw.replace(b"\n1\n", b"\n2\n"), "forged")
    assert [f.code for f in checkpoints.signature_faults(forged, trust)] == ["signature_invalid"]
    assert parse_checkpoint(raw.decode()).size == 1


def test_the_published_roots_are_ours() -> None:
    edge = CompactRange()
    for entry, root in zip(TREE.all("entry"), TREE.all("root"), strict=True):
        edge.append(leaf_hash(bytes.fromhex(entry)))
        assert edge.root().hex() == root


# ---- our log of 300 -------------------------------------------------------------------------------------------------------
def test_every_root_and_file_of_the_log_is_made_bit_for_bit() -> None:
    log = Log()
    roots = {0: log.tree.root()}
    for leaf in LEAVES:
        log.append([leaf])
        roots[log.size] = log.tree.root()
    for size, root in (line.split() for line in LOG.all("root")):
        assert base64.b64encode(roots[int(size)]).decode() == root
        assert merkle.root_at(int(size), log.read_tile) == roots[int(size)]
    files = log.files()
    expected = dict(line.split() for line in LOG.all("file"))
    del expected["checkpoint"]  # that one has the Ed25519 signature only: the next test
    made = {path: sha256(data).hexdigest() for path, data in files.items() if path.startswith("tile/")}
    assert made == expected


def test_the_ed25519_signature_of_the_log_is_made_bit_for_bit() -> None:
    log = Log(LEAVES)
    checkpoint = parse_checkpoint(log.checkpoint())
    ours = [s for s in checkpoint.note.signatures if s.key_id == parse_vkey(LOG["vkey"]).id]
    assert str(Note(checkpoint.note.text, tuple(ours))) == note_text(LOG, "checkpoint")
    assert [str(k) for k in (parse_vkey(line) for line in log.vkeys().splitlines()) if k.type == ED25519] == [LOG["vkey"]]
    digest = dict(line.split() for line in LOG.all("file"))["checkpoint"]
    assert sha256(note_text(LOG, "checkpoint").encode()).hexdigest() == digest
    assert Keys().public_ed25519() == parse_vkey(LOG["vkey"]).public
    assert LOG["name"] == ORIGIN


# ---- proofs ---------------------------------------------------------------------------------------------------------------
def unbase64(text: str) -> bytes:
    """Decode base64."""
    return base64.b64decode(text, validate=True)


PROOFS = read("tlog/proofs.txt")


@pytest.mark.parametrize("vector", [p for p in PROOFS if "leaf" in p], ids=str)
def test_inclusion(vector: Paragraph) -> None:
    hashes = [unbase64(line) for line in vector.all("proof")]
    known = (unbase64(vector["leaf"]), int(vector["index"]), int(vector["size"]), hashes, unbase64(vector["root"]))
    assert proofs.verify_inclusion(*known) is vector.good
    assert merkle.inclusion_holds(*known) is vector.good
    if vector.good:
        assert proofs.prove_inclusion(known[1], known[2], Log(LEAVES).read_tile) == hashes


@pytest.mark.parametrize("vector", [p for p in PROOFS if "old" in p], ids=str)
def test_consistency(vector: Paragraph) -> None:
    hashes = [unbase64(line) for line in vector.all("proof")]
    old, new = int(vector["old"]), int(vector["new"])
    known = (old, unbase64(vector["old-root"]), new, unbase64(vector["new-root"]), hashes)
    assert proofs.verify_consistency(*known) is vector.good
    assert merkle.consistency_holds(*known) is vector.good
    if vector.good:
        assert proofs.prove_consistency(old, new, Log(LEAVES).read_tile) == hashes


# ---- paths ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("vector", read("tlog/paths.txt"), ids=str)
def test_paths(vector: Paragraph) -> None:
    path = vector["path"].replace("\\n", "\n")
    if not vector.good:
        with pytest.raises(Malformed):
            parse_path(path)
        assert directory.parse_path(path) is None
        return
    level = None if vector["level"] == "entries" else int(vector["level"])
    index, width = int(vector["index"]), int(vector["width"])
    name = parse_path(path)
    assert (name.level, name.index, name.width) == (level, index, width)
    assert (bundle_path(index, width) if level is None else tile_path(level, index, width)) == path
    theirs = directory.ENTRIES if level is None else level
    assert directory.parse_path(path) == (theirs, index, width)
    assert directory.tile_path(theirs, index, width) == path


def test_the_tiles_of_70000_and_of_256_leaves() -> None:
    assert list(tree_tiles(70_000)) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert list(tree_tiles(256)) == [(0, 1, 0), (1, 0, 1)]
    assert list(tree_tiles(0)) == []
    assert [tile_width(0, n, 70_000) for n in (0, 272, 273, 274)] == [WIDTH, WIDTH, 112, 0]
    assert [tile_width(1, n, 70_000) for n in (0, 1, 2)] == [WIDTH, 17, 0]


def test_a_signature_line_is_an_em_dash_a_name_and_base64() -> None:
    assert str(Signature("a.example", b"\1\2\3\4", b"\5")) == "— a.example AQIDBAU=\n"

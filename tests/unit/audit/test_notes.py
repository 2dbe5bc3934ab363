"""Signed notes, checkpoints and receipts: what is read, what is refused, what exactly is signed."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography.exceptions import InvalidSignature as NotValid
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from keyclave.audit.checkpoint import parse_checkpoint, sign_checkpoint, verify_checkpoint
from keyclave.audit.note import (
    ED25519_COSIGNATURE,
    MLDSA44_COSIGNATURE,
    Note,
    Signature,
    VerifierKey,
    ed25519_cosigned,
    mldsa44_cosigned,
    parse_note,
    parse_vkey,
    signer_keys,
    verify_note,
)
from keyclave.audit.proofs import prove_consistency, prove_inclusion, verify_inclusion
from keyclave.audit.receipt import encode_receipt, parse_receipt
from keyclave.audit.tiles import encode_bundle
from keyclave.core.errors import InvalidSignature, Malformed, TooLarge
from keyclave.crypto.digest import leaf_hash
from tests.unit.audit.logs import NOON, ORIGIN, Keys, Log, events

pytestmark = pytest.mark.requirement("R5", "R7", "R40")


class Verification:
    """Satisfies `keyclave.audit.note.Verifier`."""

    def verify_ed25519(self, public: bytes, message: bytes, signature: bytes) -> None:
        self._check(lambda: Ed25519PublicKey.from_public_bytes(public).verify(signature, message))

    def verify_mldsa44(self, public: bytes, message: bytes, signature: bytes) -> None:
        self._check(lambda: MLDSA44PublicKey.from_public_bytes(public).verify(signature, message))

    def _check(self, verify: Callable[[], None]) -> None:
        try:
            verify()
        except NotValid:
            raise InvalidSignature from None


KEYS = Keys()
BOTH = signer_keys(ORIGIN, KEYS)
LOG = Log(events(5))
TEXT = LOG.checkpoint()
LINES = TEXT.splitlines()


def test_a_checkpoint_verifies_by_both_keys_and_by_each() -> None:
    for keys in (BOTH, BOTH[:1], BOTH[1:]):
        checkpoint = verify_checkpoint(TEXT, keys, Verification())
        assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (ORIGIN, 5, LOG.tree.root())


def test_the_mldsa44_message_is_the_one_of_the_specification() -> None:
    line = parse_checkpoint(TEXT).note.signatures[1]
    message = b"subtree/v1\n\0" + bytes([len(ORIGIN)]) + ORIGIN.encode() + line.payload[:8] + bytes([len(ORIGIN)])
    message += ORIGIN.encode() + bytes(8) + (5).to_bytes(8, "big") + LOG.tree.root()
    MLDSA44PublicKey.from_public_bytes(KEYS.public_mldsa44()).verify(line.payload[8:], message)
    assert mldsa44_cosigned(ORIGIN, int.from_bytes(line.payload[:8], "big"), ORIGIN, 0, 5, LOG.tree.root()) == message
    assert len(line.key_id + line.payload) == 2432


def test_an_ed25519_cosignature_verifies_and_binds_its_time() -> None:
    key = VerifierKey("witness.example", ED25519_COSIGNATURE, KEYS.public_ed25519())
    note = parse_note(TEXT)
    signature = KEYS.sign_ed25519(ed25519_cosigned(NOON, note.text))
    for seconds, good in ((NOON, True), (NOON + 1, False)):
        line = Signature(key.name, key.id, seconds.to_bytes(8, "big") + signature)
        cosigned = Note(note.text, (*note.signatures, line))
        assert parse_note(str(cosigned)) == cosigned
        if good:
            verify_note(cosigned, [*BOTH, key], Verification(), (ORIGIN, 5, LOG.tree.root()))
        else:
            with pytest.raises(InvalidSignature):
                verify_note(cosigned, [*BOTH, key], Verification(), (ORIGIN, 5, LOG.tree.root()))


@pytest.mark.parametrize(
    "forged",
    [
        TEXT.replace("\n5\n", "\n6\n"),
        "\n".join([*LINES[:4], LINES[4]]) + "\n",  # the ML-DSA line is gone
        "\n".join([*LINES[:4], LINES[5]]) + "\n",  # the Ed25519 line is gone
        sign_checkpoint(ORIGIN, 5, LOG.tree.root(), Keys(9), NOON),
        sign_checkpoint(ORIGIN, 5, bytes(32), Keys(9), NOON),
    ],
)
def test_a_forged_checkpoint_is_refused(forged: str) -> None:
    with pytest.raises(InvalidSignature):
        verify_checkpoint(forged, BOTH, Verification())


def test_signatures_under_each_others_key_are_refused() -> None:
    note = parse_note(TEXT)
    one, other = note.signatures
    swapped = Note(note.text, (one._replace(payload=other.payload), other._replace(payload=one.payload)))
    with pytest.raises(InvalidSignature):
        verify_checkpoint(str(swapped), BOTH[:1], Verification())
    with pytest.raises(InvalidSignature):
        verify_checkpoint(str(swapped), BOTH[1:], Verification())


def test_a_signature_by_an_unknown_key_changes_nothing_even_with_a_known_name_or_id() -> None:
    note = parse_note(TEXT)
    strangers = (Signature("other.example", BOTH[0].id, b"\1" * 64), Signature(ORIGIN, b"\1\2\3\4", b"\1" * 64))
    assert verify_checkpoint(str(Note(note.text, (*strangers, *note.signatures))), BOTH, Verification()).size == 5
    with pytest.raises(InvalidSignature):
        verify_checkpoint(str(Note(note.text, strangers)), BOTH, Verification())


def test_a_second_bad_signature_by_a_known_key_refuses_the_note() -> None:
    note = parse_note(TEXT)
    bad = note.signatures[0]._replace(payload=b"\1" * 64)
    with pytest.raises(InvalidSignature):
        verify_checkpoint(str(Note(note.text, (*note.signatures, bad))), BOTH, Verification())


def test_keys_of_another_log_and_no_keys_are_refused() -> None:
    with pytest.raises(Malformed):
        verify_checkpoint(TEXT, signer_keys("other.example", KEYS), Verification())
    with pytest.raises(Malformed):
        verify_checkpoint(TEXT, [], Verification())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT[:-1],
        TEXT.replace("\n\n", "\n"),
        TEXT.replace("\n5\n", "\n05\n"),
        TEXT.replace("\n5\n", "\n+5\n"),
        TEXT.replace("\n5\n", "\n9223372036854775808\n"),
        TEXT.replace("\n5\n", "\n5\nan extension\n"),
        TEXT.replace("\n5\n", "\n5\r\n"),
        TEXT.replace("\n5\n", "\n"),
        TEXT.replace("— ", "- "),
        TEXT.replace(LINES[2], LINES[2][:-4]),
        TEXT.replace(LINES[2], LINES[2].replace("=", "")),
        TEXT.replace(ORIGIN, ORIGIN + "+x"),
        TEXT + "\n",
        TEXT + "— x\n",
        TEXT + "— x AAAA\n",
        TEXT + "— x AQIDBA==\n",
        TEXT + "".join(f"— w{n} AQIDBAU=\n" for n in range(64)),
    ],
)
def test_what_is_no_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_checkpoint(text)


def test_base64_has_one_spelling() -> None:
    line = base64.b64encode(LOG.tree.root()).decode()
    loose = line[:-2] + chr(ord(line[-2]) + 1) + "="  # the last letter carries two spare bits
    assert base64.b64decode(loose) == LOG.tree.root()
    with pytest.raises(Malformed):
        parse_checkpoint(TEXT.replace(line, loose))


def test_at_least_sixteen_signatures_are_read() -> None:
    many = TEXT + "".join(f"— witness{n}.example AQIDBAU=\n" for n in range(30))
    assert len(parse_checkpoint(many).note.signatures) == 32


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "a" * 256])
def test_names_that_would_break_a_note_are_refused(name: str) -> None:
    with pytest.raises(Malformed):
        sign_checkpoint(name, 5, LOG.tree.root(), KEYS, NOON)


def test_what_a_checkpoint_cannot_state_is_refused() -> None:
    for size, root, at in (
        (-1, bytes(32), 1),
        (2**63, bytes(32), 1),
        (1, bytes(31), 1),
        (1, bytes(32), 0),
        (1, bytes(32), 2**63),
    ):
        with pytest.raises(Malformed):
            sign_checkpoint(ORIGIN, size, root, KEYS, at)


@pytest.mark.parametrize("key", BOTH, ids=["ed25519", "mldsa44"])
def test_a_vkey_is_read_back_and_a_damaged_one_is_not(key: VerifierKey) -> None:
    text = str(key)
    assert parse_vkey(text) == key
    name, hexed, encoded = text.split("+", 2)
    for damaged in (
        f"{name}+{'0' * 8}+{encoded}",
        f"other.example+{hexed}+{encoded}",
        f"{name}+{hexed[:-1]}+{encoded}",
        f"{name}+{hexed}+{encoded[:-4]}",
        f"{name}+{hexed}+",
        f"{name}+{hexed}",
        text.replace(encoded, base64.b64encode(b"\2" + key.public).decode()),
    ):
        with pytest.raises(Malformed):
            parse_vkey(damaged)
    assert MLDSA44_COSIGNATURE == 6


# ---- receipts -------------------------------------------------------------------------------------------------------------
def test_a_receipt_is_read_back_and_proves_its_entry() -> None:
    log = Log(events(300))
    proof = prove_inclusion(257, 300, log.read_tile)
    for extra in (b"", b"a note nobody vouches for"):
        receipt = parse_receipt(encode_receipt(257, proof, log.checkpoint(), extra))
        assert (receipt.index, receipt.hashes, receipt.extra) == (257, tuple(proof), extra)
        assert receipt.checkpoint.root == log.tree.root()
        leaf = leaf_hash(log.entries[257])
        assert verify_inclusion(leaf, receipt.index, receipt.checkpoint.size, receipt.hashes, receipt.checkpoint.root)


def test_the_receipt_of_the_only_entry_has_no_hashes() -> None:
    log = Log(events(1))
    text = encode_receipt(0, prove_inclusion(0, 1, log.read_tile), log.checkpoint())
    assert text.startswith(f"c2sp.org/tlog-proof@v1\nindex 0\n\n{ORIGIN}\n1\n")
    assert parse_receipt(text).hashes == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tlog-proof@v1", "tlog-proof@v2"),
        ("index 2\n", ""),
        ("index 2\n", "index 02\n"),
        ("index 2\n", "index -2\n"),
        ("index 2\n", "extra AAAA\nextra AAAA\nindex 2\n"),
        ("index 2\n", "index 2\nAAAA\n"),
        ("index 2\n", "index 2\n!\n"),
        ("\n\n" + ORIGIN, "\n" + ORIGIN),
        ("index 2\n", "index 2\n" + (base64.b64encode(bytes(32)).decode() + "\n") * 64),
    ],
)
def test_what_is_no_receipt_is_malformed(old: str, new: str) -> None:
    text = encode_receipt(2, prove_inclusion(2, 5, LOG.read_tile), TEXT)
    assert old in text
    with pytest.raises(Malformed):
        parse_receipt(text.replace(old, new, 1))


def test_proofs_of_what_is_not_there_are_refused() -> None:
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(Malformed):
            prove_inclusion(index, size, LOG.read_tile)
    for old, new in ((6, 5), (-1, 5)):
        with pytest.raises(Malformed):
            prove_consistency(old, new, LOG.read_tile)


def test_an_entry_that_its_length_cannot_state_is_too_large() -> None:
    assert len(encode_bundle([bytes(65_535)])) == 65_537
    with pytest.raises(TooLarge):
        encode_bundle([bytes(65_536)])

"""Checkpoints: the log's signed statement of its size and root (C2SP tlog-checkpoint v1.0.0; spec/checkpoint.md).

A log must never sign two checkpoints of which one is not the beginning of the other. The caller keeps that: sign only what is
durable, and only sizes that do not go back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from keyclave.audit.note import (
    Note,
    Signature,
    Signer,
    Verifier,
    VerifierKey,
    check_name,
    decode_base64,
    encode_base64,
    mldsa44_cosigned,
    parse_note,
    signer_keys,
    verify_note,
)
from keyclave.audit.tiles import HASH
from keyclave.core.errors import Malformed

_SIZE = re.compile("0|[1-9][0-9]{0,18}")
_LINES = 3  # origin, size, root: extension lines are refused, for no monitor audits them and ML-DSA does not cover them
_LARGEST = 2**63 - 1


class Checkpoint(NamedTuple):
    """A checkpoint as read: nothing of it is verified until `verify_checkpoint` returned."""

    origin: str
    size: int
    root: bytes
    note: Note


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """Return the unsigned text: origin, size in decimal, root in base64, a line each."""
    if not 0 <= size <= _LARGEST or len(root) != HASH:
        raise Malformed(f"a checkpoint states a size up to 2^63 - 1 and a root of {HASH} bytes", "take both from one tree")
    return f"{check_name(origin)}\n{size}\n{encode_base64(root)}\n"


def sign_checkpoint(origin: str, size: int, root: bytes, signer: Signer, at_seconds: int) -> str:
    """Return the signed note: an Ed25519 signature and an ML-DSA-44 cosignature that says "the largest tree at `at_seconds`".

    `at_seconds` is POSIX seconds, at least 1: zero would claim no time. About 3,500 characters.
    """
    if not 0 < at_seconds <= _LARGEST:
        raise Malformed("a checkpoint is signed at a time after 1970", "set the clock")
    text = checkpoint_text(origin, size, root)
    ed25519, mldsa44 = signer_keys(origin, signer)
    timed = signer.sign_mldsa44(mldsa44_cosigned(origin, at_seconds, origin, 0, size, root))
    signatures = (
        Signature(origin, ed25519.id, signer.sign_ed25519(text.encode())),
        Signature(origin, mldsa44.id, at_seconds.to_bytes(8, "big") + timed),
    )
    return str(Note(text, signatures))


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a signed checkpoint. Nothing is verified. `Malformed` for anything but the one form `sign_checkpoint` writes."""
    note = parse_note(text)
    lines = note.text[:-1].split("\n")
    if len(lines) != _LINES or not _SIZE.fullmatch(lines[1]) or int(lines[1]) > _LARGEST:
        raise Malformed("the checkpoint is not three lines: origin, size in decimal, root", "fetch it again")
    root = decode_base64(lines[2])
    if len(root) != HASH:
        raise Malformed(f"the root in the checkpoint is {len(root)} bytes, not {HASH}", "fetch it again")
    return Checkpoint(check_name(lines[0]), int(lines[1]), root, note)


def verify_checkpoint(text: str, keys: Iterable[VerifierKey], verifier: Verifier) -> Checkpoint:
    """Return the checkpoint if every one of `keys` (at least one) signed it and it is that log's; else `InvalidSignature`."""
    checkpoint = parse_checkpoint(text)
    required = list(keys)
    if not required or any(key.name != checkpoint.origin for key in required):
        raise Malformed(f"these are no keys of the log {checkpoint.origin}", "verify with the keys of that log")
    verify_note(checkpoint.note, required, verifier, (checkpoint.origin, checkpoint.size, checkpoint.root))
    return checkpoint

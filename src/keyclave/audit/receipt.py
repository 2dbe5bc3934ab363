"""Receipts: one file that proves one event, offline (C2SP tlog-proof@v1, a `.tlog-proof` file).

    c2sp.org/tlog-proof@v1
    index 4711
    <base64 hash, from the leaf's sibling up to the root's child>…

    <the signed checkpoint, verbatim>

The optional `extra` line is not authenticated: it is read, kept, and trusted for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from keyclave.audit.checkpoint import Checkpoint, parse_checkpoint
from keyclave.audit.note import decode_base64, encode_base64
from keyclave.audit.tiles import HASH
from keyclave.core.errors import Malformed

_HEAD = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile("index (0|[1-9][0-9]{0,18})")
_MOST_HASHES = 63  # a tree of 2^63 leaves is no deeper


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt as read: nothing of it is verified."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Checkpoint
    extra: bytes


def encode_receipt(index: int, hashes: Sequence[bytes], checkpoint: str, extra: bytes = b"") -> str:
    """Return the text of a receipt: the inclusion proof of entry `index` in the tree of the signed `checkpoint`."""
    lines = [_HEAD]
    if extra:
        lines.append("extra " + encode_base64(extra))
    lines.append(f"index {index}")
    lines += [encode_base64(node) for node in hashes]
    return "\n".join(lines) + "\n\n" + checkpoint


def parse_receipt(text: str) -> Receipt:
    """Read a receipt. Nothing is verified. `Malformed` says what is wrong with it."""
    head, empty, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not empty or lines.pop(0) != _HEAD:
        raise Malformed(f"a receipt begins with {_HEAD} and has an empty line before its checkpoint", "fetch it again")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "))
    match = _INDEX.fullmatch(lines[0]) if lines else None
    if match is None:
        raise Malformed("the receipt has no index line", "fetch it again")
    hashes = tuple(decode_base64(line) for line in lines[1:])
    if len(hashes) > _MOST_HASHES or any(len(node) != HASH for node in hashes):
        raise Malformed(f"the proof is not up to {_MOST_HASHES} hashes of {HASH} bytes", "fetch the receipt again")
    return Receipt(int(match[1]), hashes, parse_checkpoint(checkpoint), extra)

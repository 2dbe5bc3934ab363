"""The envelope: header, parsing, and what is authenticated. spec/envelope.md is the law; this is its code."""

from __future__ import annotations

import struct
from typing import NamedTuple

from keyclave.core.canonical import canonical
from keyclave.core.errors import Undecipherable

MAGIC = b"KC\x01"
SUITE_AES_256_GCM = 1
KIND_MESSAGE = 1
KIND_WRAPPED_KEY = 2

ID = 16
COMMITMENT = 32
IV = 12
TAG = 16

_HEAD = struct.Struct(">3sBB16sI16s")
PREFIX = _HEAD.size  # everything before the commitment
SIZE = PREFIX + COMMITMENT + IV
OVERHEAD = SIZE + TAG

part_iv = struct.Struct(">4xQ").pack
"""The IV of a part: its number in the message, counted from 1, as 12 bytes (spec/envelope.md)."""


class Header(NamedTuple):
    """What stands before the ciphertext."""

    suite: int
    kind: int
    key_id: bytes
    version: int
    message_id: bytes
    commitment: bytes
    iv: bytes
    raw: bytes  # the header as it stood on the wire: what is authenticated


def prefix(kind: int, key_id: bytes, version: int, message_id: bytes) -> bytes:
    """Return the header up to the commitment."""
    return _HEAD.pack(MAGIC, SUITE_AES_256_GCM, kind, key_id, version, message_id)


def key_info(kind: int, key_id: bytes, version: int, message_id: bytes) -> bytes:
    """Return what the message key is derived from, besides the key version: everything that tells one message from another."""
    return _INFO_HEAD + _INFO.pack(2, SUITE_AES_256_GCM, kind, ID, key_id, 8, version, ID, message_id)


_INFO_HEAD = canonical("keyclave/message/1")
_INFO = struct.Struct(">IBBI16sIQI16s")
_AAD_HEAD = canonical("keyclave/aad/1")
_HEADER_LENGTH = SIZE.to_bytes(4, "big")


def authenticated(header: bytes, context: bytes) -> bytes:
    """Return the additional authenticated data: the whole header and the canonical context."""
    return before_iv(header) + with_length(context)


def before_iv(head: bytes) -> bytes:
    """Return what is authenticated of a message before the IV of a part: `head` is its header up to there."""
    return _AAD_HEAD + _HEADER_LENGTH + head


def with_length(context: bytes) -> bytes:
    """Return a canonical context as it is authenticated, behind its length."""
    return len(context).to_bytes(4, "big") + context


def parse(blob: bytes) -> tuple[Header, memoryview]:
    """Split an envelope into header and sealed bytes; anything that is not one is `Undecipherable`, without detail."""
    if len(blob) < OVERHEAD:
        raise Undecipherable
    magic, suite, kind, key_id, version, message_id = _HEAD.unpack_from(blob)
    if magic != MAGIC or suite != SUITE_AES_256_GCM or kind not in (KIND_MESSAGE, KIND_WRAPPED_KEY):
        raise Undecipherable
    raw = bytes(blob[:SIZE])
    commitment = raw[PREFIX : PREFIX + COMMITMENT]
    return Header(suite, kind, key_id, version, message_id, commitment, raw[-IV:], raw), memoryview(blob)[SIZE:]

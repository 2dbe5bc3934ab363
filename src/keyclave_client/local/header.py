"""The header of a local object: its bytes, and how they are read. spec/local-envelope.md is the law; this is its code.

Pure: bytes in, values out, no key needed. Whatever is not a header is `Undecipherable`.
"""

from __future__ import annotations

import base64
import struct
from typing import NamedTuple

from keyclave_client.errors import Undecipherable

MAGIC = b"KCL\x01"  # the fourth byte is the format
SUITE = 1  # AES-256-GCM, SP 800-108 counter KDF with HMAC-SHA-512, committed
BYTES = 1
STREAM = 2
LEAST_CHUNK = 12  # log2: 4 KiB
LARGEST_CHUNK = 24  # log2: 16 MiB, what a reader must be ready to hold
MESSAGE_ID = 24
COMMITMENT = 32
TAG = 16
BYTES_LIMIT = 1 << 28  # plaintext of the bytes form: 256 MiB; larger data is a stream

_PRELUDE = struct.Struct(">4sBBBH")
PRELUDE = _PRELUDE.size
WRAPPED_LIMIT = 0xFFFF

_ENVELOPE = struct.Struct(">3sBB16sI")  # the head of a wrapped key as the server makes it (spec/envelope.md)
_ENVELOPE_MAGIC = b"KC\x01"
_WRAPPED_KEY = 2


class Header(NamedTuple):
    """What stands before the body. `chunk` is the log2 of the chunk size, 0 in the bytes form."""

    kind: int
    chunk: int
    wrapped: bytes
    message_id: bytes
    commitment: bytes

    @property
    def size(self) -> int:
        """Bytes of the header."""
        return PRELUDE + len(self.wrapped) + MESSAGE_ID + COMMITMENT

    def encode(self) -> bytes:
        """Return the header's bytes."""
        prelude = _PRELUDE.pack(MAGIC, SUITE, self.kind, self.chunk, len(self.wrapped))
        return b"".join((prelude, self.wrapped, self.message_id, self.commitment))


class WrappedBy(NamedTuple):
    """The key and version that a wrapped key depends on, as its own header says (not authenticated until it is opened)."""

    key: str
    version: int


def size_from(prelude: bytes | bytearray | memoryview) -> int:
    """Return how many bytes the header that starts with these `PRELUDE` bytes has."""
    if len(prelude) < PRELUDE:
        raise Undecipherable
    magic, suite, kind, chunk, wrapped = _PRELUDE.unpack_from(prelude)
    if magic != MAGIC or suite != SUITE or not wrapped or not _fits(kind, chunk):
        raise Undecipherable
    return PRELUDE + int(wrapped) + MESSAGE_ID + COMMITMENT


def parse(blob: bytes | bytearray | memoryview) -> Header:
    """Return the header that `blob` starts with."""
    size = size_from(blob)
    if len(blob) < size:
        raise Undecipherable
    _, _, kind, chunk, wrapped = _PRELUDE.unpack_from(blob)
    raw = bytes(blob[PRELUDE:size])
    return Header(kind, chunk, raw[:wrapped], raw[wrapped:-COMMITMENT], raw[-COMMITMENT:])


def _fits(kind: int, chunk: int) -> bool:
    return chunk == 0 if kind == BYTES else kind == STREAM and LEAST_CHUNK <= chunk <= LARGEST_CHUNK


def wrapped_by(wrapped: bytes) -> WrappedBy | None:
    """Return the key and version named by a wrapped key of Keyclave's; None for one of another maker's."""
    if len(wrapped) < _ENVELOPE.size:
        return None
    magic, _, kind, key_id, version = _ENVELOPE.unpack_from(wrapped)
    if magic != _ENVELOPE_MAGIC or kind != _WRAPPED_KEY:
        return None
    return WrappedBy("key_" + base64.b32encode(key_id).decode().rstrip("=").lower(), version)


def plaintext_size(header: Header, body: int) -> int:
    """Return the plaintext bytes of a body of `body` bytes; a length no body can have is `Undecipherable`."""
    if header.kind == BYTES:
        chunks = 1
    else:
        whole, rest = divmod(body, (1 << header.chunk) + TAG)
        chunks = whole + (rest > 0)
    if chunks == 0 or body < chunks * TAG or (header.kind == STREAM and chunks > 1 and rest == TAG):
        raise Undecipherable
    return body - chunks * TAG

"""Body keys: deriving them, committing to them, and sealing one chunk with them (spec/local-envelope.md, "Algorithm").

The message id is an argument here and MUST be fresh for each object: two objects with one id under one data key would share a
body key and its nonces. Only `Encryptor` draws it; the vectors fix it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from keyclave_client.canonical import canonical
from keyclave_client.errors import Undecipherable
from keyclave_client.local.datakey import DataKey
from keyclave_client.local.header import BYTES, BYTES_LIMIT, COMMITMENT, MESSAGE_ID, SUITE, TAG, Header

KEY = 32
_ZEROS = bytes(KEY)
_SHA512 = SHA512()
_NAME = struct.Struct(f">IBBBI{MESSAGE_ID}sI")  # suite, kind and chunk; message id; length of what follows
_INFO = canonical("keyclave/local/1")
_AAD = canonical("keyclave/local-aad/1")
_COMMITMENT_LENGTH = COMMITMENT.to_bytes(4, "big")
_NONCE = struct.Struct(">7xIB")
_ONLY = _NONCE.pack(0, 1)


class Body(NamedTuple):
    """What seals or opens the chunks of one object."""

    aead: AESGCM
    authenticated: bytes

    def seal_into(self, counter: int, final: bool, plain: memoryview, sealed: memoryview) -> None:
        """Seal one chunk; `sealed` is exactly `TAG` bytes longer than `plain`."""
        self.aead.encrypt_into(_NONCE.pack(counter, final), plain, self.authenticated, sealed)

    def open_into(self, counter: int, final: bool, sealed: memoryview, plain: memoryview) -> None:
        """Open one chunk; when it does not open, nothing of it stays in `plain`."""
        try:
            self.aead.decrypt_into(_NONCE.pack(counter, final), sealed, self.authenticated, plain)
        except InvalidTag:
            # the cipher writes as it goes and compares the tag last: what it wrote is unauthenticated and must not be seen
            plain[:] = bytes(len(plain))
            raise Undecipherable from None


def new_body(key: DataKey, kind: int, chunk: int, message_id: bytes, context: bytes) -> tuple[Header, Body]:
    """Return the header and the body key of a new object. `context` is the canonical encoding of the encryption context."""
    aead, commitment = _derive(key, kind, chunk, message_id, context)
    header = Header(kind, chunk, key.wrapped, message_id, commitment)
    return header, Body(aead, _authenticated(header, context))


def open_body(header: Header, key: DataKey, context: bytes) -> Body:
    """Return the body key of an object; a data key or context that the header does not commit to is `Undecipherable`."""
    aead, commitment = _derive(key, header.kind, header.chunk, header.message_id, context)
    if not bytes_eq(commitment, header.commitment):
        raise Undecipherable
    return Body(aead, _authenticated(header, context))


def _derive(key: DataKey, kind: int, chunk: int, message_id: bytes, context: bytes) -> tuple[AESGCM, bytes]:
    """Return the body cipher and the commitment: SP 800-108r1 section 4.1, counter mode, one block of HMAC-SHA-512."""
    fixed = b"".join((_INFO, _NAME.pack(3, SUITE, kind, chunk, MESSAGE_ID, message_id, len(context)), context))
    out = bytearray(KEY + COMMITMENT)
    derivation = KBKDFHMAC(_SHA512, Mode.CounterMode, len(out), 4, None, CounterLocation.BeforeFixed, None, None, fixed)
    key.derive_into(derivation, out)
    aead = AESGCM(memoryview(out)[:KEY])
    out[:KEY] = _ZEROS
    return aead, bytes(out[KEY:])


def _authenticated(header: Header, context: bytes) -> bytes:
    """Return the additional authenticated data: every header field but the wrapped key, and the context."""
    name = _NAME.pack(3, SUITE, header.kind, header.chunk, MESSAGE_ID, header.message_id, len(context))
    return b"".join((_AAD, name, context, _COMMITMENT_LENGTH, header.commitment))


def seal_bytes(key: DataKey, message_id: bytes, plaintext: bytes | bytearray | memoryview, context: bytes) -> bytes:
    """Return a whole object of the bytes form: a header and one final chunk."""
    header, body = new_body(key, BYTES, 0, message_id, context)
    return header.encode() + body.aead.encrypt(_ONLY, plaintext, body.authenticated)


def open_bytes(header: Header, key: DataKey, sealed: bytes | bytearray | memoryview, context: bytes) -> bytes:
    """Return the plaintext of the bytes form from its one chunk."""
    if not TAG <= len(sealed) <= BYTES_LIMIT + TAG:
        raise Undecipherable
    body = open_body(header, key, context)
    try:
        return body.aead.decrypt(_ONLY, sealed, body.authenticated)
    except InvalidTag:
        raise Undecipherable from None

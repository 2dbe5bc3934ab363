"""Random bytes, AES-256-GCM, AES-KWP, HMAC and the SP 800-108 derivation by the wheel, on keys in locked memory.

`derive_into` and `decrypt_into` write straight into locked memory. Where the wheel returns a secret as bytes all the same (random
bytes, KWP) it is copied into a slot and overwritten where it lies. An AES context holds copies of its key in OpenSSL's heap,
which OpenSSL cleanses when the context dies: contexts are made for a call and dropped after it.

A key may be wiped by another thread while it is in use. Its view then reads zeros, so every function asks `wiped` after it has
computed: an answer under the all-zero key never leaves.
"""

from __future__ import annotations

import functools

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from keyclave.core.errors import Malformed, Undecipherable
from keyclave.crypto.arena import Buffer, Slot, in_use, slot_from
from keyclave.crypto.heap import wipe_bytes
from keyclave.crypto.suites import MacAlgorithm

IV = 12
TAG = 16

_BLOCK = 64  # bytes that one call of the generator gives
_MOST_RANDOM = 1 << 20
_LONGEST_DERIVED = 1 << 13
_AES_KEYS = (16, 24, 32)
_KEY_CHECK = b"keyclave/key-check/1"
_SHA256, _SHA512 = hashes.SHA256(), hashes.SHA512()
_COUNTER, _BEFORE = Mode.CounterMode, CounterLocation.BeforeFixed
_DIGESTS: dict[MacAlgorithm, hashes.HashAlgorithm] = {
    MacAlgorithm.HMAC_SHA_256: _SHA256,
    MacAlgorithm.HMAC_SHA_384: hashes.SHA384(),
    MacAlgorithm.HMAC_SHA_512: _SHA512,
}

_draw = functools.partial(AESSIV.generate_key, 8 * _BLOCK)
"""Bytes of OpenSSL's DRBG (SP 800-90A): making a key is the one way that the wheel gives to ask it, and the longest kind of key
takes no longer than any other."""


def random(count: int) -> bytes:
    """Return `count` random bytes."""
    if not 0 < count <= _MOST_RANDOM:
        raise Malformed(f"random bytes come from 1 to {_MOST_RANDOM} at a time, not {count}", "ask for such a number")
    if count <= _BLOCK:
        return _draw()[:count]  # a call of the hot path: one draw
    return b"".join([_draw() for _ in range(-(-count // _BLOCK))])[:count]


def random_slot(count: int) -> Slot:
    """Return `count` random bytes in locked memory."""
    slot = Slot(count)
    fill(slot.view())
    return slot


def fill(view: memoryview) -> None:
    """Overwrite locked memory with random bytes."""
    count = len(view)
    for at in range(0, count, _BLOCK):
        piece = _draw()
        left = count - at
        view[at : at + _BLOCK] = piece if left >= _BLOCK else memoryview(piece)[:left]
        wipe_bytes(piece)


def moved(secret: bytes) -> Slot:
    """Move a secret that the wheel returned into locked memory."""
    slot = slot_from(secret)
    wipe_bytes(secret)
    return slot


def gcm_seal(key: Slot, iv: bytes, plaintext: Buffer, aad: bytes) -> bytes:
    """Return ciphertext and tag under an IV that was never used with this key (SP 800-38D section 7.1)."""
    sealed = AESGCM(aes_key(key)).encrypt(iv, plaintext, aad)
    in_use(key)
    return sealed


def gcm_open(key: Slot, iv: bytes, sealed: Buffer, aad: bytes) -> Slot:
    """Return the plaintext in a slot. On a wrong tag OpenSSL has already written there: it is wiped (SP 800-38D section 7.2)."""
    cipher = AESGCM(aes_key(key))
    if len(sealed) <= TAG:
        raise Undecipherable
    slot = Slot(len(sealed) - TAG)
    try:
        cipher.decrypt_into(iv, sealed, aad, slot.view())
        in_use(key)
    except InvalidTag:
        slot.wipe()
        raise Undecipherable from None
    return slot


def kwp_wrap(key: Slot, secret: Slot) -> bytes:
    """AES-KWP (SP 800-38F section 6.3, RFC 5649)."""
    wrapped = keywrap.aes_key_wrap_with_padding(aes_key(key), secret.view())
    in_use(key)
    in_use(secret)
    return wrapped


def kwp_unwrap(key: Slot, wrapped: bytes) -> Slot:
    """Open an AES-KWP wrapping; what does not open is one error whatever the reason."""
    view = aes_key(key)
    try:
        secret = keywrap.aes_key_unwrap_with_padding(view, wrapped)
    except (keywrap.InvalidUnwrap, ValueError):
        raise Undecipherable from None
    slot = moved(secret)
    in_use(key)
    return slot


def derive_into(key: Slot, info: bytes, out: memoryview) -> None:
    """SP 800-108 rev 1 section 4.1: HMAC-SHA-512, 32-bit counter before the fixed input, which is `info` as it stands."""
    KBKDFHMAC(_SHA512, _COUNTER, len(out), 4, None, _BEFORE, None, None, info).derive_into(key.view(), out)
    if key.wiped:
        in_use(key)


def derive(key: Slot, info: bytes, count: int) -> Slot:
    """Derive into a fresh slot."""
    if not 0 < count <= _LONGEST_DERIVED:
        raise Malformed(f"{count} bytes cannot be derived", f"derive 1 to {_LONGEST_DERIVED}")
    slot = Slot(count)
    derive_into(key, info, slot.view())
    return slot


def mac(key: Slot, algorithm: MacAlgorithm, message: Buffer) -> bytes:
    """HMAC (FIPS 198-1)."""
    code = HMAC(key.view(), _DIGESTS[algorithm])
    code.update(message)
    result = code.finalize()
    in_use(key)
    return result


def check_value(key: memoryview) -> str:
    """Return 8 hex digits that tell this key from others, and nothing else of it."""
    code = HMAC(key, _SHA256)
    code.update(_KEY_CHECK)
    return code.finalize()[:4].hex()


def aes_key(key: Slot) -> memoryview:
    """Return the bytes of a key that AES takes."""
    view = key.view()
    if len(view) not in _AES_KEYS:
        raise Malformed(f"an AES key has 16, 24 or 32 bytes, not {len(view)}", "use a key made for encryption")
    return view

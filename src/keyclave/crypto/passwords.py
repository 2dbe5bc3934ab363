"""Passwords, hashed slowly: Argon2id (RFC 9106), 19 MiB and two passes, a fresh salt each. About 30 ms of one core."""

from __future__ import annotations

import unicodedata

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from keyclave.crypto.digest import same

SALT = 16
_MEMORY_KIB, _PASSES, _LANES, _LENGTH = 19 * 1024, 2, 1, 32
_FORM = b"\x01"  # first byte of a hash: which parameters it was made with


def hash_password(password: str, salt: bytes) -> bytes:
    """Return form ‖ salt (16) ‖ hash (32) of a password, normalised first (NFKC: SP 800-63B-4 section 3.1.1.2)."""
    return _FORM + salt + _derive(password, salt)


def verify_password(password: str, kept: bytes) -> bool:
    """Tell whether `password` is the one of `kept`; the comparison is in constant time."""
    salt, expected = kept[1 : 1 + SALT], kept[1 + SALT :]
    return same(_derive(password, salt), expected) and kept[:1] == _FORM


def decoy(salt: bytes) -> bytes:
    """Return what no password verifies against, at the same cost as any: for names that do not exist."""
    return _FORM + salt + bytes(_LENGTH)


def _derive(password: str, salt: bytes) -> bytes:
    normal = unicodedata.normalize("NFKC", password).encode()
    return Argon2id(salt=salt, length=_LENGTH, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB).derive(normal)

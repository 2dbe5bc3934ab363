"""The log's signing keys, Ed25519 and ML-DSA-44, from one 64-byte seed that the root protects; and their verification.

Two kinds because they fail differently: Ed25519 is what public witnesses require, ML-DSA-44 (FIPS 204) outlives a quantum
computer. The seed stays in locked memory and a key is loaded for each signature: a checkpoint a second costs less than a
millisecond more, and OpenSSL's copies on the ordinary heap live only while it signs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature as NotValid
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from keyclave.core.errors import InvalidSignature, Malformed
from keyclave.crypto import heap
from keyclave.crypto.arena import Slot, in_use

SEED = 64  # bytes: 32 for each key
_HALF = 32


class LogSigner:
    """Signs checkpoints."""

    def __init__(self, seed: Slot) -> None:
        """Take over `seed`: it is wiped with this object."""
        if len(seed) != SEED:
            raise Malformed(f"the log's seed has {len(seed)} bytes, not {SEED}", "restore the database")
        self._seed = seed
        self._ed25519_public: bytes = self._ed25519(lambda key: key.public_key().public_bytes_raw())
        self._mldsa44_public: bytes = self._mldsa44(lambda key: key.public_key().public_bytes_raw())

    def public_ed25519(self) -> bytes:
        """Return 32 bytes (RFC 8032)."""
        return self._ed25519_public

    def public_mldsa44(self) -> bytes:
        """Return 1,312 bytes (FIPS 204)."""
        return self._mldsa44_public

    def sign_ed25519(self, message: bytes) -> bytes:
        """Return 64 bytes (RFC 8032, pure)."""
        signature: bytes = self._ed25519(lambda key: key.sign(message))
        return signature

    def sign_mldsa44(self, message: bytes) -> bytes:
        """Return 2,420 bytes (FIPS 204, pure, empty context)."""
        signature: bytes = self._mldsa44(lambda key: key.sign(message))
        return signature

    def wipe(self) -> None:
        """Overwrite the seed: nothing is signed any more."""
        self._seed.wipe()

    def _ed25519(self, use: Callable[[Any], bytes]) -> bytes:
        return self._using(Ed25519PrivateKey.from_private_bytes, self._seed.view()[:_HALF], use)

    def _mldsa44(self, use: Callable[[Any], bytes]) -> bytes:
        return self._using(MLDSA44PrivateKey.from_seed_bytes, self._seed.view()[_HALF:], use)

    def _using(self, load: Callable[[memoryview], Any], half: memoryview, use: Callable[[Any], bytes]) -> bytes:
        key = load(half)
        heap.scrub(heap.SCALARS)
        result = use(key)
        in_use(self._seed)  # wiped meanwhile, it may have signed by a key of zeros
        return result


class LogVerifier:
    """Verifies by raw public keys; a signature that does not hold, or a key that is none, is `InvalidSignature`."""

    def verify_ed25519(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Verify Ed25519 (RFC 8032)."""
        self._verify(Ed25519PublicKey.from_public_bytes, public, message, signature)

    def verify_mldsa44(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Verify ML-DSA-44 (FIPS 204, pure, empty context)."""
        self._verify(MLDSA44PublicKey.from_public_bytes, public, message, signature)

    def _verify(self, load: Callable[[bytes], Any], public: bytes, message: bytes, signature: bytes) -> None:
        try:
            load(public).verify(signature, message)
        except (NotValid, ValueError):
            raise InvalidSignature from None

"""The log's signing keys: Ed25519 and ML-DSA-44 from one 64-byte seed that the root protects.

Two kinds because they fail differently: Ed25519 is what public witnesses require, ML-DSA-44 (FIPS 204) outlives a quantum
computer. The loaded forms are OpenSSL objects that live while the server is unsealed, and are cleansed when it is sealed.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyclave.core.errors import Malformed
from keyclave.crypto.arena import Slot

SEED = 64  # bytes: 32 for each key


class LogSigner:
    """Signs checkpoints."""

    def __init__(self, seed: Slot) -> None:
        """Take both keys out of `seed`, which is wiped."""
        if len(seed) != SEED:
            raise Malformed(f"the log's seed has {len(seed)} bytes, not {SEED}", "restore the database")
        with seed:
            self._ed25519 = Ed25519PrivateKey.from_private_bytes(seed.view()[:32])
            self._mldsa44 = MLDSA44PrivateKey.from_seed_bytes(seed.view()[32:])

    def public_ed25519(self) -> bytes:
        """Return 32 bytes (RFC 8032)."""
        return self._ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def public_mldsa44(self) -> bytes:
        """Return 1,312 bytes (FIPS 204)."""
        return self._mldsa44.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign_ed25519(self, message: bytes) -> bytes:
        """Return 64 bytes."""
        return self._ed25519.sign(message)

    def sign_mldsa44(self, message: bytes) -> bytes:
        """Return 2,420 bytes."""
        return self._mldsa44.sign(message)

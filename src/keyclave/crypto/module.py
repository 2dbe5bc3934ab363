"""THE cryptographic module boundary: what the rest of the server may ask, and nothing of how it is done.

Secret bytes cross this boundary only inside `Slot` handles. Two implementations satisfy `CryptoModule` and share one test
suite: `pyca` (the `cryptography` wheel) and, where a FIPS provider is required, the system library (its own room).
Errors: `Undecipherable` and `InvalidSignature` for input that does not open or verify (one class, no detail), `Malformed` for
arguments out of range, `Broken` once a self-test has failed: from then on every call raises it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyclave.crypto.arena import Buffer, Slot
from keyclave.crypto.suites import KeySpec, MacAlgorithm, SignatureAlgorithm


@dataclass(frozen=True)
class ModuleInfo:
    """Which module computes: shown in status, evidence and reports. `certificate` is None for "not validated"."""

    name: str
    version: str
    fips: bool
    certificate: str | None
    self_tested_at: int  # microseconds since the epoch


@dataclass(frozen=True)
class KeyPair:
    """A fresh private key (PKCS #8 DER in a slot) and its public key (SubjectPublicKeyInfo DER)."""

    private: Slot
    public: bytes


class MessageSealer(Protocol):
    """One message key, derived for one message id: seals the parts of that message, each under another IV."""

    commitment: bytes  # 32 bytes: binds the message to the key version and message id

    def seal(self, iv: bytes, plaintext: Buffer, aad: bytes) -> bytes:
        """Return ciphertext followed by the 16-byte tag. `iv`: 12 bytes, never twice for one sealer."""
        ...

    def seal_all(self, ivs: Sequence[bytes], plaintexts: Sequence[Buffer], aads: Sequence[bytes]) -> list[bytes]:
        """Seal many parts at once, each with its own of the three. The sequences are of one length."""
        ...


class CryptoModule(Protocol):
    """In-process cryptography. Thread-safe."""

    def info(self) -> ModuleInfo: ...

    def self_test(self, *, full: bool = False) -> None:
        """Run the known-answer tests; a failure latches the module in error and raises `Broken`."""
        ...

    def fault(self) -> str:
        """Return why the module is in its error state, or nothing."""
        ...

    # randomness (SP 800-90A DRBG of the module)
    def random(self, count: int) -> bytes:
        """Return random bytes that are not secret keys: ids, nonces, what a caller asked for."""
        ...

    def random_slot(self, count: int) -> Slot:
        """Return fresh key bytes in locked memory."""
        ...

    # wrapping (AES-256-GCM, random 96-bit IV; AES-KWP of SP 800-38F)
    def seal(self, key: Slot, secret: Slot | Buffer, aad: bytes) -> bytes:
        """Return IV (12) + ciphertext + tag (16)."""
        ...

    def open_slot(self, key: Slot, sealed: bytes, aad: bytes) -> Slot:
        """Open what `seal` made into a fresh slot."""
        ...

    def make_sealed(self, key: Slot, length: int, aads: Sequence[bytes]) -> list[tuple[str, bytes]]:
        """Make a new key of `length` bytes for each of `aads`, and return its key-check value and what `seal` makes of it.

        What was sealed has been opened again and compared before it is returned. No handle to any of the keys exists after this.
        """
        ...

    def kwp_wrap(self, key: Slot, secret: Slot) -> bytes: ...

    def kwp_unwrap(self, key: Slot, wrapped: bytes) -> Slot: ...

    # messages (spec/envelope.md: SP 800-108 counter KDF with HMAC-SHA-512, then AES-256-GCM)
    def message_sealer(self, key: Slot, info: bytes) -> MessageSealer:
        """Derive the message key and commitment for `info` (canonical: label, key version, message id)."""
        ...

    def open_message(self, key: Slot, info: bytes, commitment: bytes, iv: bytes, sealed: Buffer, aad: bytes) -> bytes:
        """Return the plaintext, after comparing the commitment in constant time."""
        ...

    # derivation and digests
    def derive(self, key: Slot, info: bytes, count: int) -> Slot:
        """SP 800-108 (HMAC-SHA-512, counter mode) from a key into a fresh slot."""
        ...

    def mac(self, key: Slot, algorithm: MacAlgorithm, message: Buffer) -> bytes: ...

    def verify_mac(self, key: Slot, algorithm: MacAlgorithm, message: Buffer, mac: bytes) -> None: ...

    def key_check(self, key: Slot) -> str:
        """Return the key-check value: 8 hex digits of HMAC-SHA-256(key, "keyclave/key-check/1")."""
        ...

    # asymmetric keys
    def generate_pair(self, spec: KeySpec) -> KeyPair: ...

    def load_pair(self, spec: KeySpec, private: Slot) -> KeyPair:
        """Check an imported private key (PKCS #8 DER) against `spec` and return it with its public key."""
        ...

    def sign(self, private: Slot, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, *, digested: bool) -> bytes: ...

    def verify(
        self, public: bytes, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, signature: bytes, *, digested: bool
    ) -> None: ...

    def encrypt_public(self, public: bytes, spec: KeySpec, plaintext: Buffer) -> bytes:
        """RSA-OAEP with SHA-256 and MGF1-SHA-256, no label."""
        ...

    def decrypt_private(self, private: Slot, spec: KeySpec, ciphertext: bytes) -> Slot: ...

    def agree(self, private: Slot, spec: KeySpec, peer_public: bytes) -> Slot:
        """ECDH: the shared x-coordinate (SP 800-56A), to be run through `derive`-like extraction by its user."""
        ...

    def encapsulate(self, public: bytes, spec: KeySpec) -> tuple[Slot, bytes]:
        """ML-KEM: shared secret (32 bytes) and ciphertext."""
        ...

    def decapsulate(self, private: Slot, spec: KeySpec, ciphertext: bytes) -> Slot: ...

    # log signatures and custodians
    def specs(self) -> Sequence[KeySpec]:
        """Return the key specifications this module can make and use."""
        ...

"""The `pyca` module: the `cryptography` wheel behind the boundary. The default; never advertised as FIPS-validated.

Key bytes go in and out through locked memory only: `derive_into`, `decrypt_into` and contexts made from views. What the library
returns as bytes all the same (PKCS #8, KWP) is overwritten where it lies. An AES context keeps copies of its key in OpenSSL's own
heap while it lives, and OpenSSL cleanses them when it dies, so contexts are made for each message and dropped after it.
"""

from __future__ import annotations

import functools
import hmac
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

import cryptography
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from keyclave.core.errors import Broken, Malformed, Undecipherable
from keyclave.crypto import asymmetric
from keyclave.crypto.arena import Buffer, Slot, slot_from, wipe_bytes
from keyclave.crypto.module import KeyPair, ModuleInfo
from keyclave.crypto.suites import KeySpec, MacAlgorithm, SignatureAlgorithm

_IV = 12
_TAG = 16
_MESSAGE_KEY = 32
_DERIVED = 64
_SHA512 = hashes.SHA512()
_DIGEST = {MacAlgorithm.HMAC_SHA_256: "sha256", MacAlgorithm.HMAC_SHA_384: "sha384", MacAlgorithm.HMAC_SHA_512: "sha512"}
_KEY_CHECK = b"keyclave/key-check/1"

_SERVICES = (
    "random", "random_slot", "seal", "open_slot", "kwp_wrap", "kwp_unwrap", "message_sealer", "open_message", "derive", "mac",
    "verify_mac", "key_check", "generate_pair", "load_pair", "sign", "verify", "encrypt_public", "decrypt_private", "agree",
    "encapsulate", "decapsulate",
)  # fmt: skip
"""What the error state takes away: everything that computes."""


def _refuse(*_arguments: object, **_options: object) -> NoReturn:
    raise Broken("the cryptographic module failed its self-test", "use no keys on this machine until it is understood why")


def _derive_into(key: Slot, info: bytes, out: memoryview) -> None:
    """SP 800-108 rev 1 section 4.1: counter mode, HMAC-SHA-512, 32-bit counter before the fixed input, which is `info`."""
    KBKDFHMAC(
        algorithm=_SHA512,
        mode=Mode.CounterMode,
        length=len(out),
        rlen=4,
        llen=None,
        location=CounterLocation.BeforeFixed,
        label=None,
        context=None,
        fixed=info,
    ).derive_into(key.view(), out)


class _Scratch(threading.local):
    """Locked memory for the derived bytes of the message at hand, one for each thread."""

    def __init__(self) -> None:
        self.slot = Slot(_DERIVED)
        self.view = self.slot.view()
        self.key = self.view[:_MESSAGE_KEY]
        self.commitment = self.view[_MESSAGE_KEY:]


_ZERO = bytes(_DERIVED)


class PycaSealer:
    """A message key and its commitment. The key lives in OpenSSL's context, which dies with this object."""

    __slots__ = ("_seal", "commitment")

    def __init__(self, key: memoryview, commitment: bytes) -> None:
        self._seal = AESGCM(key).encrypt
        self.commitment = commitment

    def seal(self, iv: bytes, plaintext: Buffer, aad: bytes) -> bytes:
        """Return ciphertext and tag (SP 800-38D section 7.1)."""
        return self._seal(iv, plaintext, aad)


class PycaModule:
    """CryptoModule by the `cryptography` wheel."""

    def __init__(self) -> None:
        self._self_tested_at = 0
        self._scratch = _Scratch()

    def info(self) -> ModuleInfo:
        """Say which module this is. It holds no certificate, and says so."""
        version = f"{cryptography.__version__} ({backend.openssl_version_text()})"
        return ModuleInfo("pyca/cryptography", version, fips=False, certificate=None, self_tested_at=self._self_tested_at)

    def self_test(self, *, full: bool = False) -> None:
        """Run the known-answer tests; `full` adds the slow pairwise ones."""
        from keyclave.crypto.selftest import run

        try:
            run(self, full=full)
        except Exception as fault:
            for service in _SERVICES:
                setattr(self, service, _refuse)  # the latch: for this object, for good (FIPS 140-3 section 7.10)
            raise Broken(f"self-test failed: {fault}", "the server stops: see docs/threat-model.md") from None
        self._self_tested_at = time.time_ns() // 1000

    # ---- randomness -------------------------------------------------------------------------------------------------------
    def random(self, count: int) -> bytes:
        """Return random bytes of OpenSSL's DRBG (SP 800-90A) that are not secret keys."""
        return _random(count)

    def random_slot(self, count: int) -> Slot:
        """Return fresh key bytes."""
        slot = Slot(count)
        fill_random(slot.view())
        return slot

    # ---- wrapping ---------------------------------------------------------------------------------------------------------
    def seal(self, key: Slot, secret: Slot | Buffer, aad: bytes) -> bytes:
        """Return IV, ciphertext, tag (AES-256-GCM, random IV of 96 bits: SP 800-38D section 8.2.2)."""
        iv = _random(_IV)
        return iv + AESGCM(key.view()).encrypt(iv, secret.view() if isinstance(secret, Slot) else secret, aad)

    def open_slot(self, key: Slot, sealed: bytes, aad: bytes) -> Slot:
        """Open what `seal` made; on failure the target is wiped, since OpenSSL has already written to it."""
        length = len(sealed) - _IV - _TAG
        if length < 1:
            raise Undecipherable
        slot = Slot(length)
        try:
            AESGCM(key.view()).decrypt_into(sealed[:_IV], memoryview(sealed)[_IV:], aad, slot.view())
        except InvalidTag:
            slot.wipe()
            raise Undecipherable from None
        return slot

    def kwp_wrap(self, key: Slot, secret: Slot) -> bytes:
        """AES-KWP (SP 800-38F section 6.3, RFC 5649)."""
        return keywrap.aes_key_wrap_with_padding(key.view(), secret.view())

    def kwp_unwrap(self, key: Slot, wrapped: bytes) -> Slot:
        """Open an AES-KWP wrapping."""
        try:
            plain = keywrap.aes_key_unwrap_with_padding(key.view(), wrapped)
        except (keywrap.InvalidUnwrap, ValueError):
            raise Undecipherable from None
        return _taken(plain)

    # ---- messages ---------------------------------------------------------------------------------------------------------
    def message_sealer(self, key: Slot, info: bytes) -> PycaSealer:
        """Derive a message key and its commitment."""
        scratch = self._scratch
        _derive_into(key, info, scratch.view)
        sealer = PycaSealer(scratch.key, bytes(scratch.commitment))
        scratch.view[:] = _ZERO
        return sealer

    def open_message(self, key: Slot, info: bytes, commitment: bytes, iv: bytes, sealed: Buffer, aad: bytes) -> bytes:
        """Return the plaintext if commitment and tag hold."""
        scratch = self._scratch
        _derive_into(key, info, scratch.view)
        try:
            if not hmac.compare_digest(scratch.commitment, commitment):
                raise Undecipherable
            return AESGCM(scratch.key).decrypt(iv, sealed, aad)
        except (InvalidTag, ValueError):
            raise Undecipherable from None
        finally:
            scratch.view[:] = _ZERO

    # ---- derivation and MACs ----------------------------------------------------------------------------------------------
    def derive(self, key: Slot, info: bytes, count: int) -> Slot:
        """SP 800-108 into a fresh slot."""
        slot = Slot(count)
        _derive_into(key, info, slot.view())
        return slot

    def mac(self, key: Slot, algorithm: MacAlgorithm, message: Buffer) -> bytes:
        """HMAC (FIPS 198-1)."""
        return hmac.digest(key.view(), message, _DIGEST[algorithm])

    def verify_mac(self, key: Slot, algorithm: MacAlgorithm, message: Buffer, mac: bytes) -> None:
        """Compare in constant time; raise `InvalidSignature` if it is another."""
        asymmetric.require(hmac.compare_digest(hmac.digest(key.view(), message, _DIGEST[algorithm]), mac))

    def key_check(self, key: Slot) -> str:
        """Return 8 hex digits that tell this key from others, and nothing else of it."""
        return hmac.digest(key.view(), _KEY_CHECK, "sha256")[:4].hex()

    # ---- pairs ------------------------------------------------------------------------------------------------------------
    def generate_pair(self, spec: KeySpec) -> KeyPair:
        """Make a key pair."""
        return asymmetric.generate(spec)

    def load_pair(self, spec: KeySpec, private: Slot) -> KeyPair:
        """Check an imported private key in full and return the pair."""
        return asymmetric.load(spec, private)

    def sign(self, private: Slot, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, *, digested: bool) -> bytes:
        """Sign."""
        return asymmetric.sign(private, spec, algorithm, message, digested=digested)

    def verify(
        self, public: bytes, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, signature: bytes, *, digested: bool
    ) -> None:
        """Verify, or raise `InvalidSignature`."""
        asymmetric.verify(public, spec, algorithm, message, signature, digested=digested)

    def encrypt_public(self, public: bytes, spec: KeySpec, plaintext: Buffer) -> bytes:
        """RSA-OAEP."""
        return asymmetric.encrypt(public, spec, plaintext)

    def decrypt_private(self, private: Slot, spec: KeySpec, ciphertext: bytes) -> Slot:
        """RSA-OAEP."""
        return _taken(asymmetric.decrypt(private, spec, ciphertext))

    def agree(self, private: Slot, spec: KeySpec, peer_public: bytes) -> Slot:
        """ECDH."""
        return _taken(asymmetric.agree(private, spec, peer_public))

    def encapsulate(self, public: bytes, spec: KeySpec) -> tuple[Slot, bytes]:
        """ML-KEM."""
        secret, ciphertext = asymmetric.encapsulate(public, spec)
        return _taken(secret), ciphertext

    def decapsulate(self, private: Slot, spec: KeySpec, ciphertext: bytes) -> Slot:
        """ML-KEM."""
        return _taken(asymmetric.decapsulate(private, spec, ciphertext))

    def specs(self) -> Sequence[KeySpec]:
        """Return what this module can make and use: everything."""
        return tuple(KeySpec)


def _random(count: int) -> bytes:
    """Random bytes of OpenSSL's DRBG: AES-128 keys, since the library gives no other way to ask it."""
    if count < 1:
        raise Malformed("at least one random byte", "ask for more")
    blocks = -(-count // 32)
    drawn = _generate() if blocks == 1 else b"".join(_generate() for _ in range(blocks))
    return drawn[:count]


_generate = functools.partial(AESGCM.generate_key, 256)


def fill_random(view: memoryview) -> None:
    """Fill locked memory with random bytes; the library's own copy of each piece is overwritten."""
    at = 0
    while at < len(view):
        piece = _generate()
        count = min(32, len(view) - at)
        view[at : at + count] = piece if count == 32 else memoryview(piece)[:count]
        wipe_bytes(piece)
        at += count


def _taken(secret: bytes) -> Slot:
    """Move a secret that the library returned into locked memory."""
    slot = slot_from(secret)
    wipe_bytes(secret)
    return slot

"""The `pyca` module: the `cryptography` wheel behind the boundary. The default; it holds no FIPS certificate and says so.

Nothing is computed before the known-answer tests have passed, and nothing after one has failed: every call asks `ready` first.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping, Sequence

import cryptography
from cryptography.hazmat.backends.openssl import backend

from keyclave.core.errors import Broken, InvalidSignature, Undecipherable
from keyclave.crypto import selftest
from keyclave.crypto.arena import Buffer, Slot, in_use
from keyclave.crypto.module import KeyPair, ModuleInfo
from keyclave.crypto.pyca import asymmetric, fresh_keys, messages, private_keys, symmetric
from keyclave.crypto.suites import KeySpec, MacAlgorithm, SignatureAlgorithm


class PycaModule:
    """CryptoModule by the `cryptography` wheel. Each method's contract stands in `CryptoModule`."""

    def __init__(self, *, answers_for_tests_only: Mapping[str, str] | None = None) -> None:
        """Make the module; its self-test runs with the first call. The argument replaces published answers, to see it fail."""
        self.ready = False
        self._fault = ""
        self._answers = answers_for_tests_only or {}
        self._self_tested_at = 0
        self._testing = threading.Lock()
        self._scratch = messages.Scratch()
        self._loaded = private_keys.Loaded()

    def info(self) -> ModuleInfo:
        """Say which module this is."""
        version = f"{cryptography.__version__} ({backend.openssl_version_text()})"
        return ModuleInfo("pyca/cryptography", version, fips=False, certificate=None, self_tested_at=self._self_tested_at)

    def fault(self) -> str:
        """Return why the module is in its error state, or nothing."""
        return self._fault

    def self_test(self, *, full: bool = False) -> None:
        """Run the known-answer tests (about 20 ms); `full` adds a fresh pair of every kind, RSA among them (seconds)."""
        with self._testing:
            self._run_tests(full=full)
        self.admit()

    def _run_tests(self, *, full: bool) -> None:
        tried = PycaModule()
        tried.ready = True  # the tests call an instance of their own: this one computes for nobody until they have passed
        try:
            selftest.run(tried, symmetric.gcm_seal, self._answers, full=full)
        except Exception as fault:  # whatever goes wrong in a self-test is a failed self-test
            self._fault = self._fault or str(fault) or type(fault).__name__
        self.ready = not self._fault
        if self.ready:
            self._self_tested_at = time.time_ns() // 1000

    def admit(self) -> None:
        """Let a call pass, or raise `Broken` for good once a self-test has failed (the error state of FIPS 140-3, section
        7.10)."""
        if not self.ready and not self._fault:
            with self._testing:
                if not self.ready and not self._fault:  # another thread may have been first
                    self._run_tests(full=False)
        if self._fault:
            raise Broken(
                f"the cryptographic module failed its self-test ({self._fault})",
                "stop the server; run it on another machine before you trust this one's processor, memory or libraries again",
            )

    # ---- randomness ---------------------------------------------------------------------------------------------------------
    def random(self, count: int) -> bytes:
        """Return random bytes that are not secret keys."""
        if not self.ready:
            self.admit()
        return symmetric.random(count)

    def random_slot(self, count: int) -> Slot:
        """Return fresh key bytes in locked memory."""
        if not self.ready:
            self.admit()
        return symmetric.random_slot(count)

    # ---- wrapping -----------------------------------------------------------------------------------------------------------
    def seal(self, key: Slot, secret: Slot | Buffer, aad: bytes) -> bytes:
        """Return IV, ciphertext, tag; the IV is 96 random bits (SP 800-38D section 8.2.2)."""
        if not self.ready:
            self.admit()
        iv = symmetric.random(symmetric.IV)
        if not isinstance(secret, Slot):
            return iv + symmetric.gcm_seal(key, iv, secret, aad)
        sealed = symmetric.gcm_seal(key, iv, secret.view(), aad)
        in_use(secret)
        return iv + sealed

    def open_slot(self, key: Slot, sealed: bytes, aad: bytes) -> Slot:
        """Open what `seal` made."""
        if not self.ready:
            self.admit()
        if len(sealed) <= symmetric.IV + symmetric.TAG:
            raise Undecipherable
        return symmetric.gcm_open(key, sealed[: symmetric.IV], memoryview(sealed)[symmetric.IV :], aad)

    def make_sealed(self, key: Slot, length: int, aads: Sequence[bytes]) -> list[tuple[str, bytes]]:
        """Make keys and seal them, each bound to its own of `aads`."""
        if not self.ready:
            self.admit()
        return list(fresh_keys.make_sealed(key, length, aads))

    def kwp_wrap(self, key: Slot, secret: Slot) -> bytes:
        """Wrap by AES-KWP."""
        self.admit()
        return symmetric.kwp_wrap(key, secret)

    def kwp_unwrap(self, key: Slot, wrapped: bytes) -> Slot:
        """Open AES-KWP."""
        self.admit()
        return symmetric.kwp_unwrap(key, wrapped)

    # ---- messages -----------------------------------------------------------------------------------------------------------
    def message_sealer(self, key: Slot, info: bytes) -> messages.PycaSealer:
        """Derive a message key and its commitment."""
        if not self.ready:
            self.admit()
        return messages.sealer(self, self._scratch, key, info)

    def open_message(self, key: Slot, info: bytes, commitment: bytes, iv: bytes, sealed: Buffer, aad: bytes) -> bytes:
        """Return the plaintext if commitment and tag hold."""
        if not self.ready:
            self.admit()
        return messages.open_message(self._scratch, key, info, commitment, iv, sealed, aad)

    # ---- derivation and MACs ------------------------------------------------------------------------------------------------
    def derive(self, key: Slot, info: bytes, count: int) -> Slot:
        """Derive `count` bytes."""
        self.admit()
        return symmetric.derive(key, info, count)

    def mac(self, key: Slot, algorithm: MacAlgorithm, message: Buffer) -> bytes:
        """Return the MAC, as long as the digest."""
        if not self.ready:
            self.admit()
        return symmetric.mac(key, algorithm, message)

    def verify_mac(self, key: Slot, algorithm: MacAlgorithm, message: Buffer, mac: bytes) -> None:
        """Compare in constant time."""
        if not hmac.compare_digest(self.mac(key, algorithm, message), mac):
            raise InvalidSignature

    def key_check(self, key: Slot) -> str:
        """Return 8 hex digits that tell this key from others, and nothing else of it."""
        if not self.ready:
            self.admit()
        value = symmetric.check_value(key.view())
        in_use(key)
        return value

    # ---- pairs --------------------------------------------------------------------------------------------------------------
    def generate_pair(self, spec: KeySpec) -> KeyPair:
        """Make a key pair."""
        self.admit()
        return private_keys.generate(spec)

    def load_pair(self, spec: KeySpec, private: Slot) -> KeyPair:
        """Check an imported private key in full and return the pair; `private` stays the caller's to wipe."""
        self.admit()
        return private_keys.import_pair(spec, private)

    def sign(self, private: Slot, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, *, digested: bool) -> bytes:
        """Sign."""
        self.admit()
        return asymmetric.sign(self._loaded, private, spec, algorithm, message, digested=digested)

    def verify(
        self, public: bytes, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, signature: bytes, *, digested: bool
    ) -> None:
        """Verify, or raise `InvalidSignature`."""
        self.admit()
        asymmetric.verify(public, spec, algorithm, message, signature, digested=digested)

    def encrypt_public(self, public: bytes, spec: KeySpec, plaintext: Buffer) -> bytes:
        """Encrypt by RSA-OAEP."""
        self.admit()
        return asymmetric.encrypt(public, spec, plaintext)

    def decrypt_private(self, private: Slot, spec: KeySpec, ciphertext: bytes) -> Slot:
        """Open RSA-OAEP."""
        self.admit()
        return asymmetric.decrypt(self._loaded, private, spec, ciphertext)

    def agree(self, private: Slot, spec: KeySpec, peer_public: bytes) -> Slot:
        """Return the shared x-coordinate of ECDH."""
        self.admit()
        return asymmetric.agree(self._loaded, private, spec, peer_public)

    def encapsulate(self, public: bytes, spec: KeySpec) -> tuple[Slot, bytes]:
        """Return secret and ciphertext of ML-KEM."""
        self.admit()
        return asymmetric.encapsulate(public, spec)

    def decapsulate(self, private: Slot, spec: KeySpec, ciphertext: bytes) -> Slot:
        """Return the secret of an ML-KEM ciphertext."""
        self.admit()
        return asymmetric.decapsulate(self._loaded, private, spec, ciphertext)

    def specs(self) -> Sequence[KeySpec]:
        """Return what this module can make and use: everything in the list."""
        return tuple(KeySpec)

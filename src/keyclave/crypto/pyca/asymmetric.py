"""Signatures, RSA-OAEP, ECDH and ML-KEM by the wheel. A check that fails is one error without detail."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature as NotValid
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keyclave.core.errors import InvalidSignature, Malformed, Undecipherable
from keyclave.crypto import heap
from keyclave.crypto.arena import Buffer, Slot
from keyclave.crypto.pyca.private_keys import RSA_BITS, Loaded, is_of
from keyclave.crypto.pyca.symmetric import moved
from keyclave.crypto.suites import KeySpec, Purpose, SignatureAlgorithm

_HASHES: dict[SignatureAlgorithm, hashes.HashAlgorithm] = {
    SignatureAlgorithm.ECDSA_SHA_256: hashes.SHA256(),
    SignatureAlgorithm.ECDSA_SHA_384: hashes.SHA384(),
    SignatureAlgorithm.RSA_PSS_SHA_256: hashes.SHA256(),
    SignatureAlgorithm.RSA_PSS_SHA_384: hashes.SHA384(),
    SignatureAlgorithm.RSA_PSS_SHA_512: hashes.SHA512(),
}
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
_OAEP_OVERHEAD = 66  # two digests of SHA-256 and two bytes (RFC 8017 section 7.1.1)
_LONGEST_PUBLIC = 8192


def sign(
    loaded: Loaded, private: Slot, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, *, digested: bool
) -> bytes:
    """Sign `message` or, `digested`, the digest that the algorithm names."""
    scheme = _scheme(spec, algorithm, message, digested)
    signature: bytes = loaded.get(private, spec).sign(message, *scheme)
    return signature


def verify(
    public: bytes, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, signature: bytes, *, digested: bool
) -> None:
    """Verify, or raise `InvalidSignature`."""
    scheme = _scheme(spec, algorithm, message, digested)
    key = _public(spec, public)
    try:
        key.verify(signature, message, *scheme)
    except (NotValid, ValueError):
        raise InvalidSignature from None


def encrypt(public: bytes, spec: KeySpec, plaintext: Buffer) -> bytes:
    """RSA-OAEP with SHA-256 and MGF1-SHA-256, no label (SP 800-56B rev 2 section 7.2.2, RFC 8017 section 7.1)."""
    _require(spec, Purpose.DECRYPT)
    limit = RSA_BITS[spec] // 8 - _OAEP_OVERHEAD
    if not 0 < len(plaintext) <= limit:
        raise Malformed(f"{spec.value} encrypts 1 to {limit} bytes, not {len(plaintext)}", "encrypt a data key and use that")
    plain = plaintext if isinstance(plaintext, bytes) else bytes(plaintext)
    try:
        ciphertext: bytes = _public(spec, public).encrypt(plain, _OAEP)
    finally:
        if plain is not plaintext:
            heap.wipe_bytes(plain)
    return ciphertext


def decrypt(loaded: Loaded, private: Slot, spec: KeySpec, ciphertext: bytes) -> Slot:
    """Open RSA-OAEP."""
    _require(spec, Purpose.DECRYPT)
    key = loaded.get(private, spec)
    try:
        plaintext: bytes = key.decrypt(ciphertext, _OAEP)
    except ValueError:
        raise Undecipherable from None
    finally:
        heap.scrub(heap.EVERYTHING)  # the wheel decrypts into a buffer as long as the modulus and frees it as it is
    if not plaintext:
        raise Undecipherable
    return moved(plaintext)


def agree(loaded: Loaded, private: Slot, spec: KeySpec, peer_public: bytes) -> Slot:
    """ECDH with cofactor 1 (SP 800-56A rev 3 section 5.7.1.2). The library has checked that the point is on the curve."""
    _require(spec, Purpose.AGREE)
    peer = _public(spec, peer_public)
    try:
        secret: bytes = loaded.get(private, spec).exchange(ec.ECDH(), peer)
    except ValueError:
        raise Malformed("no secret can be agreed on with this public key", "send the peer's own public key") from None
    return moved(secret)


def encapsulate(public: bytes, spec: KeySpec) -> tuple[Slot, bytes]:
    """ML-KEM.Encaps (FIPS 203 section 7.2): secret and ciphertext."""
    _require(spec, Purpose.ENCAPSULATE)
    secret, ciphertext = _public(spec, public).encapsulate()
    return moved(secret), ciphertext


def decapsulate(loaded: Loaded, private: Slot, spec: KeySpec, ciphertext: bytes) -> Slot:
    """ML-KEM.Decaps (FIPS 203 section 7.3).

    A ciphertext of another key gives an unrelated secret, as the standard wants; one of a wrong length is `Undecipherable`.
    """
    _require(spec, Purpose.ENCAPSULATE)
    key = loaded.get(private, spec)
    try:
        secret: bytes = key.decapsulate(ciphertext)
    except ValueError:
        raise Undecipherable from None
    return moved(secret)


def _scheme(spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, digested: bool) -> tuple[Any, ...]:
    """Return what the library wants beside the message."""
    if algorithm not in SignatureAlgorithm.fitting(spec):
        raise Malformed(f"{spec.value} does not sign with {algorithm.value}", "omit the algorithm to get the default")
    digest = _HASHES.get(algorithm)
    if digest is None:
        if digested:
            raise Malformed(f"{algorithm.value} signs messages, not digests", "send the message")
        return ()
    if digested and len(message) != digest.digest_size:
        raise Malformed(f"a digest for {algorithm.value} has {digest.digest_size} bytes, not {len(message)}", "send that digest")
    chosen: Any = Prehashed(digest) if digested else digest
    if spec in RSA_BITS:
        return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size), chosen  # FIPS 186-5 section 5.4
    return (ec.ECDSA(chosen),)


def _public(spec: KeySpec, public: bytes) -> Any:
    """Return a loaded public key of `spec`. ML-KEM keys and points are checked as they are loaded (FIPS 203 7.2, SP 800-56A
    5.6.2.3)."""
    key = _loaded_public(public) if len(public) <= _LONGEST_PUBLIC else None
    if not is_of(spec, key, private=False):
        raise Malformed(f"the public key is not of {spec.value}", "send SubjectPublicKeyInfo of the same kind and curve")
    return key


@lru_cache(maxsize=512)
def _loaded_public(public: bytes) -> Any:
    try:
        return load_der_public_key(public)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _require(spec: KeySpec, purpose: Purpose) -> None:
    if purpose not in spec.purposes:
        raise Malformed(f"{spec.value} keys are not for {purpose.value}", "use a key that was made for it")

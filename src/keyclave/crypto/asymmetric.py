"""Key pairs by the `cryptography` wheel: generation, loading, signatures, OAEP, ECDH, ML-KEM.

A private key is PKCS #8 DER in a slot. The loaded form is an OpenSSL object that holds a copy; it is remembered as long as
its slot
lives, counts as a key copy, and is cleansed by OpenSSL when it goes. Verification failures are one class without detail.
"""

from __future__ import annotations

import weakref
from typing import Any

from cryptography.exceptions import InvalidSignature as _InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from keyclave.core.errors import InvalidSignature, Malformed, Undecipherable
from keyclave.crypto.arena import Buffer, Slot, slot_from, wipe_bytes
from keyclave.crypto.module import KeyPair
from keyclave.crypto.suites import KeySpec, SignatureAlgorithm

_RSA_BITS = {KeySpec.RSA_3072: 3072, KeySpec.RSA_4096: 4096}
_CURVES: dict[KeySpec, type[ec.EllipticCurve]] = {
    KeySpec.ECDSA_P256: ec.SECP256R1,
    KeySpec.ECDSA_P384: ec.SECP384R1,
    KeySpec.ECDH_P256: ec.SECP256R1,
    KeySpec.ECDH_P384: ec.SECP384R1,
}
_KINDS: dict[KeySpec, tuple[Any, Any]] = {
    KeySpec.ED25519: (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey),
    KeySpec.ML_KEM_768: (mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey),
    KeySpec.ML_KEM_1024: (mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey),
    KeySpec.ML_DSA_65: (mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey),
    KeySpec.ML_DSA_87: (mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey),
}
_HASHES: dict[SignatureAlgorithm, hashes.HashAlgorithm] = {
    SignatureAlgorithm.ECDSA_SHA_256: hashes.SHA256(),
    SignatureAlgorithm.ECDSA_SHA_384: hashes.SHA384(),
    SignatureAlgorithm.RSA_PSS_SHA_256: hashes.SHA256(),
    SignatureAlgorithm.RSA_PSS_SHA_384: hashes.SHA384(),
    SignatureAlgorithm.RSA_PSS_SHA_512: hashes.SHA512(),
}
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)

_LOADED: weakref.WeakKeyDictionary[Slot, Any] = weakref.WeakKeyDictionary()


def generate(spec: KeySpec) -> KeyPair:
    """Make a key pair."""
    if spec in _RSA_BITS:
        key: Any = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS[spec])
    elif spec in _CURVES:
        key = ec.generate_private_key(_CURVES[spec]())
    elif spec in _KINDS:
        key = _KINDS[spec][0].generate()
    else:
        raise Malformed(f"{spec.value} is not a key pair", "choose another spec")
    return _pair(key)


def load(spec: KeySpec, private: Slot) -> KeyPair:
    """Load an imported private key with every check the library has, and require it to be of `spec`."""
    try:
        key: Any = load_der_private_key(private.view(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Malformed(
            "the private key is not PKCS #8 DER of a kind known here", "convert it with `openssl pkcs8 -topk8`"
        ) from None
    if not _is(spec, key, private=True):
        raise Malformed(f"the private key is not of {spec.value}", "name the spec that it has")
    return _pair(key)


def _pair(key: Any) -> KeyPair:
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    private = slot_from(der)
    wipe_bytes(der)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(private, public)


def _is(spec: KeySpec, key: Any, *, private: bool) -> bool:
    if spec in _RSA_BITS:
        return isinstance(key, rsa.RSAPrivateKey if private else rsa.RSAPublicKey) and key.key_size == _RSA_BITS[spec]
    if spec in _CURVES:
        kind = ec.EllipticCurvePrivateKey if private else ec.EllipticCurvePublicKey
        return isinstance(key, kind) and isinstance(key.curve, _CURVES[spec])
    return spec in _KINDS and isinstance(key, _KINDS[spec][0 if private else 1])


def _private(private: Slot) -> Any:
    key = _LOADED.get(private)
    if key is None:
        # our own material, authenticated by its wrapping: RSA's primality checks were made when it was made or imported
        key = load_der_private_key(private.view(), None, unsafe_skip_rsa_key_validation=True)
        _LOADED[private] = key
    private.view()  # a wiped slot is refused even while its loaded form lingers
    return key


def _public(spec: KeySpec, public: bytes) -> Any:
    try:
        key: Any = load_der_public_key(public)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not _is(spec, key, private=False):
        raise Malformed(f"the public key is not of {spec.value}", "send SubjectPublicKeyInfo of the same kind and curve")
    return key


def require(valid: bool) -> None:
    """Raise `InvalidSignature` unless `valid`."""
    if not valid:
        raise InvalidSignature


def _scheme(algorithm: SignatureAlgorithm, message: Buffer, digested: bool) -> tuple[Any, ...]:
    """Return what the library wants beside the message."""
    digest = _HASHES.get(algorithm)
    if digest is None:
        if digested:
            raise Malformed(f"{algorithm.value} signs messages, not digests", "send the message")
        return ()
    if digested and len(message) != digest.digest_size:
        raise Malformed(f"a digest for {algorithm.value} has {digest.digest_size} bytes, not {len(message)}", "send that digest")
    chosen: Any = Prehashed(digest) if digested else digest
    if algorithm.value.startswith("rsa"):
        return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size), chosen  # FIPS 186-5 section 5.4
    return (ec.ECDSA(chosen),)


def sign(private: Slot, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, *, digested: bool) -> bytes:
    """Sign `message` (or its digest)."""
    _fits(spec, algorithm)
    signature: bytes = _private(private).sign(message, *_scheme(algorithm, message, digested))
    return signature


def verify(
    public: bytes, spec: KeySpec, algorithm: SignatureAlgorithm, message: Buffer, signature: bytes, *, digested: bool
) -> None:
    """Verify, or raise `InvalidSignature`."""
    _fits(spec, algorithm)
    scheme = _scheme(algorithm, message, digested)
    try:
        _public(spec, public).verify(signature, message, *scheme)
    except (_InvalidSignature, ValueError):
        raise InvalidSignature from None


def _fits(spec: KeySpec, algorithm: SignatureAlgorithm) -> None:
    if algorithm not in SignatureAlgorithm.fitting(spec):
        raise Malformed(f"{spec.value} does not sign with {algorithm.value}", "omit the algorithm to get the default")


def encrypt(public: bytes, spec: KeySpec, plaintext: Buffer) -> bytes:
    """RSA-OAEP (SP 800-56B, RFC 8017 section 7.1)."""
    key = _public(spec, public)
    limit = key.key_size // 8 - 66
    if len(plaintext) > limit:
        raise Malformed(f"{spec.value} encrypts at most {limit} bytes", "encrypt a data key and use that")
    ciphertext: bytes = key.encrypt(bytes(plaintext), _OAEP)
    return ciphertext


def decrypt(private: Slot, spec: KeySpec, ciphertext: bytes) -> bytes:
    """RSA-OAEP; the caller moves the plaintext into locked memory."""
    if spec not in _RSA_BITS:
        raise Malformed(f"{spec.value} does not decrypt", "use an RSA key made for decrypt")
    try:
        plaintext: bytes = _private(private).decrypt(ciphertext, _OAEP)
    except ValueError:
        raise Undecipherable from None
    if not plaintext:
        raise Undecipherable
    return plaintext


def agree(private: Slot, spec: KeySpec, peer_public: bytes) -> bytes:
    """ECDH with cofactor 1 (SP 800-56A section 5.7.1.2)."""
    try:
        secret: bytes = _private(private).exchange(ec.ECDH(), _public(spec, peer_public))
    except ValueError:
        raise Malformed("the public key is not a point on the curve", "send the peer's own public key") from None
    return secret


def encapsulate(public: bytes, spec: KeySpec) -> tuple[bytes, bytes]:
    """ML-KEM.Encaps (FIPS 203 section 7.2): secret and ciphertext."""
    secret, ciphertext = _public(spec, public).encapsulate()
    return secret, ciphertext


def decapsulate(private: Slot, spec: KeySpec, ciphertext: bytes) -> bytes:
    """ML-KEM.Decaps (FIPS 203 section 7.3); a ciphertext of another key gives a random secret, one of a wrong length is
    refused."""
    if spec not in (KeySpec.ML_KEM_768, KeySpec.ML_KEM_1024):
        raise Malformed(f"{spec.value} does not decapsulate", "use an ML-KEM key")
    try:
        secret: bytes = _private(private).decapsulate(ciphertext)
    except ValueError:
        raise Undecipherable from None
    return secret

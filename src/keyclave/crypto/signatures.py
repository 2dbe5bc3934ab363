"""Signatures of people's own keys: ECDSA over P-256 or P-384, checked without a key of ours (FIPS 186-5 section 6)."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature as _Invalid
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keyclave.core.errors import InvalidSignature, Malformed

_HASH: dict[str, type[hashes.SHA256] | type[hashes.SHA384]] = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384}


def check_ecdsa_key(spki_der: bytes) -> str:
    """Return the curve (`secp256r1`, `secp384r1`) of a public key (DER SubjectPublicKeyInfo); any other is `Malformed`."""
    return _load(spki_der).curve.name


def verify_ecdsa(spki_der: bytes, message: bytes, signature: bytes) -> None:
    """Verify a DER ECDSA signature over `message`: SHA-256 with P-256, SHA-384 with P-384. Raise `InvalidSignature`."""
    key = _load(spki_der)
    try:
        key.verify(signature, message, ec.ECDSA(_HASH[key.curve.name]()))
    except _Invalid:
        raise InvalidSignature from None


def _load(spki_der: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(spki_der)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASH:
        return key
    raise Malformed("the public key is not one of P-256 or P-384", "make one with `openssl ecparam -name prime256v1 -genkey`")

"""Signatures of approvers: ECDSA by an enrolled key over the statement, or a WebAuthn assertion over its SHA-256.

WebAuthn level 3 section 7.2 as far as it can be checked offline; COSE keys (RFC 9052, 9053) are read by hand and strictly: a map
of small integers to integers and byte strings, in definite lengths, each label once, nothing after it.
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from typing import Any

from keyclave_verify.reading import decode_base64, read_json, read_text

_UP, _UV = 0x01, 0x04
_BASE64URL = re.compile("[A-Za-z0-9_-]*")
_KTY, _ALG = 1, 3
_P256 = 1


def verify_key(public: bytes, statement: bytes, proof: dict[str, Any]) -> None:
    """Verify a DER ECDSA signature: SHA-256 with P-256, SHA-384 with P-384. ValueError says what is wrong."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    if set(proof) != {"signature"}:
        raise ValueError("the proof is not one of a key")
    try:
        key = load_der_public_key(public)
    except (ValueError, UnsupportedAlgorithm):  # the latter for a curve that nobody knows
        raise ValueError("the public key cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ("secp256r1", "secp384r1"):
        raise ValueError("the key is not one of P-256 or P-384")
    hash_ = hashes.SHA256() if key.curve.name == "secp256r1" else hashes.SHA384()
    _verify(lambda: key.verify(decode_base64(proof["signature"]), statement, ec.ECDSA(hash_)))


def verify_passkey(public: bytes, statement: bytes, proof: dict[str, Any], rp_id: str, origins: tuple[str, ...]) -> None:
    """Verify an assertion whose challenge is the statement's SHA-256. ValueError says what is wrong."""
    if proof.get("type") != "public-key" or not isinstance(proof.get("response"), dict):
        raise ValueError("the proof is not one of a passkey")
    response = proof["response"]
    client = base64url(response.get("clientDataJSON"))
    data = base64url(response.get("authenticatorData"))
    _check_client(client, sha256(statement).digest(), origins)
    if len(data) < 37:
        raise ValueError("the authenticator's data are too short")
    if data[:32] != sha256(rp_id.encode()).digest():
        raise ValueError(f"the passkey signed for another party than {rp_id}")
    if data[32] & (_UP | _UV) != _UP | _UV:
        raise ValueError("the user was not present and verified")
    _verify_cose(public, base64url(response.get("signature")), data + sha256(client).digest())


def _check_client(raw: bytes, challenge: bytes, origins: tuple[str, ...]) -> None:
    client = read_json(read_text(raw))
    if not isinstance(client, dict) or client.get("type") != "webauthn.get":
        raise ValueError("the client data are not of a WebAuthn assertion")
    if base64url(client.get("challenge")) != challenge:
        raise ValueError("the passkey signed another challenge than this statement")
    if client.get("origin") not in origins:
        raise ValueError("the passkey was asked on a page of another origin")
    if client.get("crossOrigin") or client.get("topOrigin"):
        raise ValueError("the passkey was asked inside another page's frame")


def _verify_cose(cose: bytes, signature: bytes, signed: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    key = read_cose(cose)
    kind = (key.get(_KTY), key.get(_ALG))
    if kind == (2, -7) and key.get(-1) == _P256 and set(key) == {1, 3, -1, -2, -3}:
        x, y = (_bytes(key[label], 32) for label in (-2, -3))
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
        _verify(lambda: point.verify(signature, signed, ec.ECDSA(hashes.SHA256())))
    elif kind == (1, -8) and key.get(-1) == 6 and set(key) == {1, 3, -1, -2}:
        edwards = ed25519.Ed25519PublicKey.from_public_bytes(_bytes(key[-2], 32))
        _verify(lambda: edwards.verify(signature, signed))
    elif kind == (3, -257) and set(key) == {1, 3, -1, -2}:
        n, e = (int.from_bytes(_bytes(key[label])) for label in (-1, -2))
        if n.bit_length() < 2048:
            raise ValueError("the RSA key is shorter than 2048 bits")
        modulus = rsa.RSAPublicNumbers(e, n).public_key()
        _verify(lambda: modulus.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256()))
    else:
        raise ValueError("the passkey's key is none of ES256, EdDSA (Ed25519), RS256")


def _verify(check: Any) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        check()
    except InvalidSignature:
        raise ValueError("the signature does not verify") from None


def read_cose(raw: bytes) -> dict[int, int | bytes]:
    """Read a COSE key: a CBOR map (RFC 8949) of integers to integers or byte strings. ValueError for anything else."""
    major, count, at = _head(raw, 0)
    if major != 5 or count > 16:
        raise ValueError("the COSE key is not a small map")
    key: dict[int, int | bytes] = {}
    for _ in range(count):
        label, at = _item(raw, at)
        if not isinstance(label, int) or label in key:
            raise ValueError("a label of the COSE key is not a number, or is there twice")
        key[label], at = _item(raw, at)
    if at != len(raw):
        raise ValueError("something follows the COSE key")
    return key


def _item(raw: bytes, at: int) -> tuple[int | bytes, int]:
    major, value, at = _head(raw, at)
    if major == 0:
        return value, at
    if major == 1:
        return -1 - value, at
    if major == 2:
        if at + value > len(raw):
            raise ValueError("the COSE key is cut short")
        return raw[at : at + value], at + value
    raise ValueError("the COSE key holds what a key has no use for")


def _head(raw: bytes, at: int) -> tuple[int, int, int]:
    """Return major type, argument and where it goes on. The shortest form only: one key has one spelling."""
    if at >= len(raw):
        raise ValueError("the COSE key is cut short")
    major, low = raw[at] >> 5, raw[at] & 31
    if low < 24:
        return major, low, at + 1
    if low > 26:
        raise ValueError("a length in the COSE key is not one that keys have")
    size = 1 << (low - 24)
    value = int.from_bytes(raw[at + 1 : at + 1 + size])
    if at + 1 + size > len(raw) or value < (24, 1 << 8, 1 << 16)[low - 24]:
        raise ValueError("a length in the COSE key is cut short, or longer than it need be")
    return major, value, at + 1 + size


def base64url(text: object) -> bytes:
    """Decode base64url without padding, one spelling for each value. ValueError for anything else."""
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise ValueError("a part of the proof is not base64url")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != text:
        raise ValueError("a part of the proof is not base64url")
    return raw


def _bytes(value: int | bytes, length: int | None = None) -> bytes:
    if not isinstance(value, bytes) or (length is not None and len(value) != length):
        raise ValueError("the COSE key is not one of its kind")
    return value

"""Wrapping key material for import: RSA-OAEP around a one-time AES key, AES-KWP (RFC 5649) around the material.

This is the form PKCS #11 calls CKM_RSA_AES_KEY_WRAP: RSA ciphertext first, wrapped material behind it. The one-time key is made
here, used once and wiped.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from keyclave_client.errors import Malformed

ALGORITHM = "RSA-OAEP-SHA256+AES-KWP"
LEAST_BITS = 3072
_CHECK_LABEL = b"keyclave/key-check/1"


def wrap_for_import(wrapping_key: str, algorithm: str, material: bytes | bytearray | memoryview) -> bytes:
    """Return `material` wrapped to the RSA public key (PEM) that the server handed out."""
    if algorithm != ALGORITHM:
        raise Malformed(f"the server asks for {algorithm!r}, which this client does not know", "update the client")
    if not len(material):
        raise Malformed("there is no key material", "give the key's bytes")
    try:
        public = load_pem_public_key(wrapping_key.encode())
    except ValueError:
        raise Malformed("the server's wrapping key is not a public key", "check what stands between client and server") from None
    if not isinstance(public, RSAPublicKey) or public.key_size < LEAST_BITS:
        raise Malformed(f"the server's wrapping key is not RSA of {LEAST_BITS} bits or more", "do not import; tell its operators")
    once = bytearray(secrets.token_bytes(32))
    try:
        oaep = OAEP(mgf=MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        return public.encrypt(bytes(once), oaep) + aes_key_wrap_with_padding(bytes(once), bytes(material))
    finally:
        once[:] = bytes(len(once))


def key_check(material: bytes | bytearray | memoryview) -> str:
    """Return the key-check value: the first 8 hex digits of HMAC-SHA-256(material, "keyclave/key-check/1").

    Unlike a block cipher of zeros it says nothing that an encryption under the same key could also say.
    """
    return hmac.new(bytes(material), _CHECK_LABEL, hashlib.sha256).hexdigest()[:8]

"""Public keys as people exchange them: PEM of SubjectPublicKeyInfo (RFC 7468, RFC 5280)."""

from __future__ import annotations

import base64

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from keyclave.core.errors import Malformed

_LONGEST = 8192


def to_pem(der: bytes) -> str:
    """Return PEM text."""
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


def from_pem(text: str) -> bytes:
    """Return the DER of a public key in PEM."""
    if len(text) <= _LONGEST:
        try:
            key = load_pem_public_key(text.encode())
            return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, UnsupportedAlgorithm):
            pass
    raise Malformed(
        "the public key is not PEM of a kind known here", "send SubjectPublicKeyInfo between BEGIN and END PUBLIC KEY"
    )

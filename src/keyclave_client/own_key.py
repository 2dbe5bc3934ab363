"""A person's own key in a PEM file: P-256 or P-384, with or without a passphrase. It signs what its owner approves."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from keyclave_client.errors import KeyclaveError

_HASH: dict[str, type[hashes.SHA256] | type[hashes.SHA384]] = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384}


class OwnKey:
    """A loaded key. `public_key` is its public half in PEM."""

    def __init__(self, pem: bytes, passphrase: bytes | None = None) -> None:
        """Load it; raise `KeyclaveError` for what is no such key, or another passphrase."""
        try:
            key = load_pem_private_key(pem, passphrase)
        except (ValueError, TypeError):
            raise KeyclaveError("the key file does not open", "it is PEM of a private key; check the passphrase") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASH:
            raise KeyclaveError("the key is not one of P-256 or P-384", "make one: `openssl ecparam -name prime256v1 -genkey`")
        self._key = key
        self.public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def __repr__(self) -> str:
        return f"OwnKey({self._key.curve.name})"

    def sign(self, message: bytes) -> bytes:
        """Return the DER ECDSA signature: SHA-256 with P-256, SHA-384 with P-384."""
        return self._key.sign(message, ec.ECDSA(_HASH[self._key.curve.name]()))

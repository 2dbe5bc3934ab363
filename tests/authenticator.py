"""A passkey in software, for tests: it makes and signs what a device would, and, asked to, what a device must not.

WebAuthn level 3: section 6.1 (authenticator data), 6.5 (attestation), 5.8.1 (client data). Keys are made with `cryptography`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from webauthn.helpers import encode_cbor

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
ES256, EDDSA, RS256, ES384 = -7, -8, -257, -35


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_b64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Passkey:
    """One credential of a device. `step` is what each signature adds to the counter (0: it does not count)."""

    origin: str
    rp_id: str = "localhost"
    algorithm: int = ES256
    aaguid: bytes = bytes(16)
    synced: bool = False
    count: int = 0
    step: int = 1
    verified: bool = True
    cross_origin: bool = False
    handle: bytes = b""
    user: bytes = b""
    attestation: tuple[Any, list[x509.Certificate]] | None = None  # a vendor's key and certificates: packed instead of none
    key: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        makers: dict[int, Callable[[], Any]] = {
            ES256: lambda: ec.generate_private_key(ec.SECP256R1()),
            ES384: lambda: ec.generate_private_key(ec.SECP384R1()),
            EDDSA: ed25519.Ed25519PrivateKey.generate,
            RS256: lambda: rsa.generate_private_key(65537, 2048),
        }
        self.key = self.key or makers[self.algorithm]()
        import os

        self.handle = self.handle or os.urandom(32)

    def create(self, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Answer `navigator.credentials.create()`; `changes`: challenge, type or origin of the client data."""
        self.user = from_b64url(options["user"]["id"])
        attested = self.aaguid + len(self.handle).to_bytes(2, "big") + self.handle + encode_cbor(self._cose())
        data = self._data(AT) + attested
        client = self._client("webauthn.create", options, changes)
        statement: dict[str, Any] = {}
        if self.attestation is not None:
            vendor, chain = self.attestation
            signature = vendor.sign(data + sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
            statement = {"alg": ES256, "sig": signature, "x5c": [one.public_bytes(Encoding.DER) for one in chain]}
        said = encode_cbor({"fmt": "packed" if statement else "none", "attStmt": statement, "authData": data})
        response = {"clientDataJSON": b64url(client), "attestationObject": b64url(said), "transports": ["internal"]}
        return self._credential(response)

    def get(self, options: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Answer `navigator.credentials.get()`; `changes` as for `create`, or `key` to sign with another one."""
        self.count += self.step
        data = self._data(0)
        client = self._client("webauthn.get", options, changes)
        signature = self._sign(data + sha256(client).digest(), changes.get("key", self.key))
        response = {"clientDataJSON": b64url(client), "authenticatorData": b64url(data), "signature": b64url(signature)}
        if self.user:
            response["userHandle"] = b64url(changes.get("user", self.user))
        return self._credential(response)

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        name = b64url(self.handle)
        more = {"clientExtensionResults": {}, "authenticatorAttachment": "platform"}
        return {"id": name, "rawId": name, "type": "public-key", "response": response, **more}

    def _client(self, kind: str, options: dict[str, Any], changes: dict[str, Any]) -> bytes:
        said = {
            "type": changes.get("type", kind),
            "challenge": changes.get("challenge", options["challenge"]),
            "origin": changes.get("origin", self.origin),
            "crossOrigin": self.cross_origin,
        }
        return json.dumps(said).encode()

    def _data(self, more: int) -> bytes:
        flags = UP | more | (UV if self.verified else 0) | ((BE | BS) if self.synced else 0)
        return sha256(self.rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def _sign(self, message: bytes, key: Any) -> bytes:
        if self.algorithm == EDDSA:
            return bytes(key.sign(message))
        if self.algorithm == RS256:
            return bytes(key.sign(message, padding.PKCS1v15(), hashes.SHA256()))
        return bytes(key.sign(message, ec.ECDSA(hashes.SHA256() if self.algorithm == ES256 else hashes.SHA384())))

    def _cose(self) -> dict[int, Any]:
        public = self.key.public_key()
        if self.algorithm == EDDSA:
            return {1: 1, 3: EDDSA, -1: 6, -2: public.public_bytes_raw()}
        numbers = public.public_numbers()
        if self.algorithm == RS256:
            return {1: 3, 3: RS256, -1: numbers.n.to_bytes(256, "big"), -2: b"\x01\x00\x01"}
        curve, size = (1, 32) if self.algorithm == ES256 else (2, 48)
        return {1: 2, 3: self.algorithm, -1: curve, -2: numbers.x.to_bytes(size, "big"), -3: numbers.y.to_bytes(size, "big")}

"""The device in a person's pocket, for the demonstration: it makes a passkey and signs with it, as a security key would.

WebAuthn level 3, sections 5.8.1 (client data), 6.1 (authenticator data) and 6.5 (attestation: none). It stands in for hardware
and browser only: everything the server checks, it checks here too.
"""

from __future__ import annotations

import base64
import json
import os
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import encode_cbor

_PRESENT_AND_VERIFIED, _ATTESTED = 0x05, 0x40


class Device:
    """One passkey on one device, used at one site."""

    def __init__(self, origin: str, site: str = "localhost") -> None:
        self._origin = origin
        self._site = sha256(site.encode()).digest()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._handle = os.urandom(32)
        self._user = ""
        self._count = 0

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """Answer what a page would ask with `navigator.credentials.create()`."""
        self._user = options["user"]["id"]
        numbers = self._key.public_key().public_numbers()
        cose = encode_cbor({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})
        attested = bytes(16) + len(self._handle).to_bytes(2, "big") + self._handle + cose
        statement = encode_cbor({"fmt": "none", "attStmt": {}, "authData": self._data(_ATTESTED) + attested})
        response = {"clientDataJSON": _text(self._client("webauthn.create", options)), "attestationObject": _text(statement)}
        return self._credential(response)

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """Answer what a page would ask with `navigator.credentials.get()`."""
        self._count += 1
        data, client = self._data(0), self._client("webauthn.get", options)
        signature = self._key.sign(data + sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": _text(client),
            "authenticatorData": _text(data),
            "signature": _text(signature),
            "userHandle": self._user,
        }
        return self._credential(response)

    def _client(self, kind: str, options: dict[str, Any]) -> bytes:
        said = {"type": kind, "challenge": options["challenge"], "origin": self._origin, "crossOrigin": False}
        return json.dumps(said).encode()

    def _data(self, more: int) -> bytes:
        return self._site + bytes([_PRESENT_AND_VERIFIED | more]) + self._count.to_bytes(4, "big")

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        name = _text(self._handle)
        return {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {}}


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")

"""Bundles for tests, and the request that applies one, signed by whoever asks."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.live import Live


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def digest(files: dict[str, str]) -> bytes:
    """Return the digest of a bundle, as spec/policy.md has it."""
    return hashlib.sha256(rfc8785.dumps({"files": dict(files), "format": "keyclave/policy/1"})).digest()


def statement(tenant: str, files: dict[str, str], revision: int) -> bytes:
    """Return what is signed for a bundle to become that revision."""
    said: dict[str, Any] = {"bundle": digest(files).hex(), "format": "keyclave/policy-apply/1", "revision": revision}
    return rfc8785.dumps({**said, "tenant": tenant})


class Signer:
    """A person with an enrolled key."""

    def __init__(self, live: Live, token: str) -> None:
        self.live, self.token = live, token
        person = live.approver(token)
        self.key, self.authenticator = person.key, person.authenticator
        self.tenant = str(live.get("/v1/whoami", token).json()["tenant"])

    def request(self, files: dict[str, str], **changes: Any) -> dict[str, Any]:
        """Return the signed request that applies `files` on the revision in force."""
        now = self.live.get("/v1/policy", self.token).json()["revision"]
        signed = b64(self.key.sign(statement(self.tenant, files, now + 1), ec.ECDSA(hashes.SHA256())))
        body = {"files": files, "expected": now, "reason": "a test"}
        return {**body, "signature": {"authenticator": self.authenticator, "signature": signed}, **changes}


def apply_request(live: Live, files: dict[str, str], token: str) -> dict[str, Any]:
    """Return a request that applies `files`, signed by a new key of whoever `token` is of."""
    return Signer(live, token).request(files)

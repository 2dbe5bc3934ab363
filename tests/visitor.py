"""Somebody with a passkey in software, for tests: enrols, logs in and steps up over REST like a browser's page would."""

from __future__ import annotations

import base64
from dataclasses import InitVar, dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.authenticator import Passkey
from tests.live import Live


@dataclass
class Visitor:
    """A person at a live server. `given`: a passkey with other properties than an honest one has."""

    live: Live
    name: str
    given: InitVar[Passkey | None] = None
    passkey: Passkey = field(init=False, repr=False)

    def __post_init__(self, given: Passkey | None) -> None:
        self.passkey = given or Passkey(origin_of(self.live))

    def enrol(self, token: str, **changes: Any) -> httpx.Response:
        """Enrol the passkey with whatever may enrol one."""
        begun = self.live.post("/v1/authenticators/passkey/begin", token)
        assert begun.status_code == 200, begun.text
        made = self.passkey.create(begun.json()["publicKey"], **changes)
        body = {"ceremony": begun.json()["ceremony"], "credential": made, "label": "laptop"}
        return self.live.post("/v1/authenticators/passkey/finish", token, body)

    def login_request(self, principal: str = "", **changes: Any) -> dict[str, Any]:
        """Return the body that finishes a login."""
        begun = self.live.post("/v1/login/passkey/begin", body={"principal": principal} if principal else {}).json()
        return {"ceremony": begun["ceremony"], "credential": self.passkey.get(begun["publicKey"], **changes)}

    def try_login(self, principal: str = "", **changes: Any) -> httpx.Response:
        """Log in and return the answer."""
        return self.live.post("/v1/login/passkey/finish", body=self.login_request(principal, **changes))

    def login(self) -> str:
        """Log in and return the session's token."""
        answer = self.try_login()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def step_up_request(self, token: str) -> dict[str, Any]:
        """Return the body that finishes a step-up of the session."""
        begun = self.live.post("/v1/step-up/passkey/begin", token).json()
        return {"ceremony": begun["ceremony"], "credential": self.passkey.get(begun["publicKey"])}

    def step_up(self, token: str) -> str:
        """Step up and return the new token."""
        answer = self.live.post("/v1/step-up/passkey/finish", token, self.step_up_request(token))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def key_request(self, token: str, key: ec.EllipticCurvePrivateKey | None = None) -> dict[str, Any]:
        """Return the body that enrols a key (a new P-256 one unless given)."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        begun = self.live.post("/v1/authenticators/key/begin", token).json()
        proof = key.sign(begun["statement"].encode(), ec.ECDSA(hashes.SHA256()))
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return {"ceremony": begun["ceremony"], "public_key": pem, "proof": base64.b64encode(proof).decode(), "label": "card"}


def origin_of(live: Live) -> str:
    """Return the origin of the server's own pages."""
    return f"https://localhost:{live.port}"

"""People who approve, for tests: they enrol a P-256 key of their own and sign what waits for them, as the command line does."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Send = Callable[[str, str, str, dict[str, Any] | None], tuple[int, dict[str, Any]]]
"""(operation's path, ref, token, body) to (status, answer); no body means GET."""

_ONE = "/v1/approvals/{approval}"


@dataclass
class Approver:
    """A person with a key: `token` is what they log in with."""

    send: Send
    token: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False)
    authenticator: str = ""

    def enrol(self) -> Approver:
        """Enrol the key, with whatever may enrol a first one."""
        status, begun = self.send("/v1/authenticators/key/begin", "", self.token, {})
        assert status == 200, begun
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        body = {"ceremony": begun["ceremony"], "public_key": pem, "proof": self.signature(begun["statement"]), "label": "test"}
        status, made = self.send("/v1/authenticators/key", "", self.token, body)
        assert status == 201, made
        self.authenticator = made["id"]
        return self

    def signature(self, statement: str) -> str:
        """Return a DER signature in base64."""
        return base64.b64encode(self.key.sign(statement.encode(), ec.ECDSA(hashes.SHA256()))).decode()

    def statement(self, approval: str) -> str:
        """Ask for the statement to sign."""
        status, begun = self.send(f"{_ONE}/begin", approval, self.token, {"authenticator": self.authenticator})
        assert status == 200, begun
        return str(begun["statement"])

    def sign(self, approval: str) -> tuple[int, dict[str, Any]]:
        """Sign; the answer is the server's."""
        status, begun = self.send(f"{_ONE}/begin", approval, self.token, {"authenticator": self.authenticator})
        if status != 200:
            return status, begun
        body = {"statement": begun["statement"], "signature": self.signature(begun["statement"])}
        return self.send(f"{_ONE}/sign", approval, self.token, body)


@dataclass
class Approvers:
    """The people of one server who approve for each other, by token; each enrols a key when first asked."""

    send: Send
    known: dict[str, Approver] = field(default_factory=dict)

    def of(self, token: str) -> Approver:
        """Return the approver who logs in with this token."""
        if token not in self.known:
            self.known[token] = Approver(self.send, token).enrol()
        return self.known[token]

    def request(self, operation: str, ref: str, body: dict[str, Any] | None, token: str, **more: Any) -> dict[str, Any]:
        """Ask for approval and return the request."""
        asked = {"operation": operation, "ref": ref, "request": body, "reason": "as planned", **more}
        status, made = self.send("/v1/approvals", "", token, asked)
        assert status == 201, made
        return made

    def approve(self, approval: str, requester: str, tokens: Iterable[str]) -> str:
        """Have others sign until the request is approved, and return its status."""
        status = "pending"
        for token in tokens:
            if status != "pending":
                break
            if token != requester:
                code, answer = self.of(token).sign(approval)
                status = str(answer["status"]) if code == 200 else status
        return status

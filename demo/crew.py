"""People of the demonstration: each with a device, talking to the server as the pages and the command line do."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

import httpx

from demo.device import Device
from demo.house import House


@dataclass
class Person:
    """Somebody, and what they hold: a device, and the session it opened."""

    house: House
    name: str
    device: Device = field(init=False, repr=False)
    session: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self.device = Device(f"https://localhost:{self.house.port}")
        context = ssl.create_default_context(cafile=str(self.house.home / "tls" / "ca.pem"))
        self._http = httpx.Client(base_url=self.house.url, verify=context, timeout=30)

    def send(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send a request with the session, or another token; return status and answer."""
        bearer = self.session if token is None else token
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer:
            named["authorization"] = f"Bearer {bearer}"
        answer = self._http.request(method, path, json=body if method != "GET" else None, headers=named)
        return answer.status_code, answer.json()

    def must(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """Send a request that has to succeed."""
        status, answer = self.send(method, path, {} if body is None else body, **more)
        if status >= 300:
            raise RuntimeError(f"{self.name}: {method} {path}: {answer.get('detail')} ({answer.get('code')})")
        return answer

    def enrol(self, token: str) -> str:
        """Make a passkey on the device, with an invitation's or a first credential's token; return its id."""
        begun = self.must("POST", "/v1/authenticators/passkey/begin", token=token)
        made = {"ceremony": begun["ceremony"], "credential": self.device.create(begun["publicKey"]), "label": "security key"}
        return str(self.must("POST", "/v1/authenticators/passkey/finish", made, token=token)["id"])

    def accept(self, invitation: str) -> str:
        """Take up an invitation and enrol the passkey with it; return its id."""
        return self.enrol(str(self.must("POST", "/v1/enrolment/begin", {"invitation": invitation}, token="")["token"]))

    def login(self) -> dict[str, Any]:
        """Log in with the passkey; return what the server knows of the caller then."""
        begun = self.must("POST", "/v1/login/passkey/begin", token="")
        proof = {"ceremony": begun["ceremony"], "credential": self.device.get(begun["publicKey"])}
        self.session = str(self.must("POST", "/v1/login/passkey/finish", proof, token="")["token"])
        return self.must("GET", "/v1/whoami")

    def ask(self, operation: str, ref: str, request: dict[str, Any], reason: str) -> dict[str, Any]:
        """Ask others to approve something."""
        return self.must("POST", "/v1/approvals", {"operation": operation, "ref": ref, "request": request, "reason": reason})

    def approve(self, approval: str) -> dict[str, Any]:
        """Read a request and sign its hash with the passkey."""
        begun = self.must("POST", f"/v1/approvals/{approval}/begin")
        body = {"statement": begun["statement"], "credential": self.device.get(begun["publicKey"])}
        return self.must("POST", f"/v1/approvals/{approval}/sign", body)

    def refused(self, method: str, path: str, body: Any = None, **more: Any) -> str:
        """Send a request that must not succeed, and return the code of the refusal."""
        status, answer = self.send(method, path, {} if body is None else body, **more)
        return str(answer.get("code", "")) if status >= 400 else ""

    def execute(self, approval: str) -> dict[str, Any]:
        """Do what was approved, and return the first item's answer."""
        (result,) = self.must("POST", f"/v1/approvals/{approval}/execute")["results"]
        if result.get("error"):
            raise RuntimeError(f"{self.name}: {result['error']['detail']}")
        return dict(result["answer"])

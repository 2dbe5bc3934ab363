"""A live server with a listener for each plane, an outside authority, and clients that present certificates."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from tests.live import Live, free_port, launch
from tests.workloads.certificates import Authority, Identity, signing_request

DOMAIN = "hospital.example"
OWN = "keyclave.localhost"


@dataclass
class House:
    """Two listeners of one server, and the authority that it was told to believe for `DOMAIN`."""

    live: Live
    folder: Path
    data_port: int
    outside: Authority
    devices: Authority
    made: int = 0

    @property
    def data_url(self) -> str:
        return f"https://127.0.0.1:{self.data_port}"

    def client(self, identity: Identity | None, *, url: str = "") -> httpx.Client:
        """Return a client of the data listener that presents a certificate."""
        self.made += 1
        if identity is None:
            return httpx.Client(
                base_url=url or self.data_url, verify=ssl.create_default_context(cafile=self.live.ca_file), timeout=30
            )
        context = identity.context(self.folder, self.live.ca_file, f"client-{self.made}")
        return httpx.Client(base_url=url or self.data_url, verify=context, timeout=30)

    def register(self, name: str, operations: list[str], keys: list[str]) -> dict[str, Any]:
        """Register a workload as the operator."""
        scope = {"operations": operations, "keys": keys}
        answer = self.live.post("/v1/workloads", "operator", {"name": name, "scope": scope})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def enrolment(self, name: str, uses: int = 1, **more: Any) -> dict[str, Any]:
        """Make an enrolment as the operator and return it with its token."""
        answer = self.live.post("/v1/enrolments", "operator", {"name": name, "uses": uses, **more})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def issue(self, token: str | None, client: httpx.Client | None = None, **more: Any) -> Identity:
        """Get a certificate against a token, or as the client whose certificate it is."""
        csr, key = signing_request()
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        with client or self.client(None) as sender:
            answer = sender.post("/v1/certificates", json={"csr": csr, **more}, headers=headers)
        assert answer.status_code == 201, answer.text
        return Identity(x509.load_pem_x509_certificate(answer.json()["certificate"].encode()), key)

    def workload(self, path: str, operations: tuple[str, ...] = ("encrypt",)) -> Identity:
        """Register a workload of our own trust domain and return its certificate."""
        name = f"spiffe://{OWN}/{path}"
        self.register(name, list(operations), ["ward-*"])
        return self.issue(self.enrolment(name)["token"])


def identity_of(identity: Identity) -> str:
    """Return the id under which the server knows a certificate."""
    raw = hashlib.sha256(identity.der).digest()[:16]
    return "crt_" + base64.b32encode(raw).decode().rstrip("=").lower()


def start_house(folder: Path, *, listen: str = "", data: str = "", more: str = "") -> House:
    """Start a server with two listeners; the arguments are appended to its configuration's tables."""
    outside, devices = Authority.root("Hospital authority"), Authority.root("Device authority")
    port = free_port()
    (folder / "outside.pem").write_bytes(outside.pem)
    (folder / "devices.pem").write_bytes(devices.pem)

    def configure(text: str) -> str:
        text = text.replace("[listen]\n", f"[listen]\n{listen}\n").replace("[data]\n", f"[data]\n{data}\n")
        return text + (
            f'\n[[workloads.authorities]]\nlabel = "hospital"\nbundle = "{folder}/outside.pem"\ntrust_domain = "{DOMAIN}"\n'
            f'[[workloads.authorities]]\nlabel = "devices"\nbundle = "{folder}/devices.pem"\nnaming = "common-name"\n{more}'
        )

    live = launch(folder, "--development", "--data-port", str(port), configure=configure)
    return House(live, folder, port, outside, devices)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house for everybody who does not hurt it."""
    made = start_house(tmp_path_factory.mktemp("house"))
    made.live.create_key("ward-records", environment="test", classification="ePHI")
    yield made
    made.live.stop()

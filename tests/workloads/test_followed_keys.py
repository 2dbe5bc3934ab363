"""Keys of an issuer that are fetched: over TLS from where the configuration says, and nowhere else."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from tests.workloads.certificates import Authority, signing_request
from tests.workloads.conftest import OWN, House, start_house
from tests.workloads.test_outside_tokens import AUDIENCE, PROVIDER, Signer, login


class Provider:
    """A key server on loopback; `answer` is what it says next."""

    def __init__(self, folder: Path) -> None:
        authority = Authority.root("Provider authority")
        identity = authority.leaf(x509.IPAddress(ip_address("127.0.0.1")), common="provider")
        (folder / "provider-ca.pem").write_bytes(authority.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*identity.write(folder, "provider"))
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                status, headers, body = outer.answer
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}/keys"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = Provider(tmp_path)
    yield made
    made.server.shutdown()


@pytest.fixture
def house(tmp_path: Path, provider: Provider) -> Iterator[House]:
    made = start_house(
        tmp_path,
        more=f"""
[[workloads.issuers]]
label = "provider"
issuer = "{PROVIDER}"
audience = "{AUDIENCE}"
path = "/oidc/{{sub}}"
keys_url = "{provider.url}"
keys_ca_file = "{tmp_path}/provider-ca.pem"
""",
    )
    made.register(f"spiffe://{OWN}/oidc/*", ["encrypt"], ["ward-*"])
    assert made.live.post("/v1/authority/renew", "operator").status_code == 201
    yield made
    made.live.stop()


def enrols(house: House, token: str, seconds: float = 25) -> bool:
    """Tell whether a token is taken, within some seconds: an issuer is asked again every ten at most."""
    deadline = time.monotonic() + seconds
    with house.client(None) as client:
        while True:
            headers = {"authorization": f"Bearer {token}"}
            if client.post("/v1/certificates", json={"csr": signing_request()[0]}, headers=headers).status_code == 201:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)  # between two looks at a condition


@pytest.mark.requirement("R32")
def test_rotated_keys_are_fetched_and_nothing_else_is_believed(house: House, provider: Provider) -> None:
    first, second, elsewhere = Signer("first"), Signer("second"), Signer("elsewhere")
    provider.answer = (200, {}, json.dumps(first.keys()).encode())
    assert enrols(house, first.sign(login(), first.ec))
    provider.answer = (200, {}, json.dumps(second.keys()).encode())
    assert enrols(house, second.sign(login(), second.ec))  # a token that no known key verifies has the issuer asked again
    assert not enrols(house, first.sign(login("late"), first.ec), seconds=0)  # withdrawn with the rotation
    asked = provider.asked
    other = Provider(house.folder / "other") if (house.folder / "other").mkdir() is None else provider
    other.answer = (200, {}, json.dumps(elsewhere.keys()).encode())
    provider.answer = (302, {"location": other.url}, b"")
    assert not enrols(house, elsewhere.sign(login(), elsewhere.ec), seconds=12)
    assert (provider.asked > asked, other.asked) == (True, 0)  # asked again, and no redirect followed
    provider.answer = (200, {}, b'{"keys": [' + b" " * 300_000 + b"]}")
    assert enrols(house, second.sign(login("still"), second.ec), seconds=0)  # what was known stays
    assert provider.asked - asked < 20  # nobody makes the server ask as often as they like
    other.server.shutdown()

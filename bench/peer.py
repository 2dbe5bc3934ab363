"""The peer: an OpenBao server with its transit engine, set up as its operators would, and once more tuned.

Not its development mode. Storage in memory (so its storage costs it nothing) or, beside PostgreSQL, its own replicated one (raft),
AES-256-GCM, the file audit device, which the
configuration declares as its documentation asks. Two set-ups, because a benchmark against an untuned peer would be none:

documented   a token as `token create -policy=app` makes it, which also carries the policy `default`
tuned        a token without `default` (its templated text is evaluated with every request), GOGC=400 (less garbage collection
             for more memory), and the limit on strings in a request lifted, without which a batch of 1,000 is refused
"""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

from bench.load import Endpoint, Work
from bench.processes import Process, free_port

KEY = "bench"
_POLICY = 'path "transit/*" { capabilities = ["create", "read", "update"] }'


class OpenBao:
    """One server with a plain and a TLS listener; TLS with the certificate that it is given."""

    def __init__(
        self, program: Path, folder: Path, certificate: tuple[Path, Path], *, tuned: bool, storage: str = "inmem"
    ) -> None:
        self.name = "OpenBao, tuned" if tuned else "OpenBao, as documented"
        self.tuned = tuned
        self._folder = folder / f"peer-{'tuned' if tuned else 'documented'}-{storage}"
        self._folder.mkdir()
        self._audit = self._folder / "audit.log"
        plain, tls, cluster = free_port(), free_port(), free_port()
        self.url, self._tls_url = f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}"
        limits = {"max_request_json_strings": 1_000_000} if tuned else {}
        served = {"tls_cert_file": str(certificate[0]), "tls_key_file": str(certificate[1]), "tls_min_version": "tls13"}
        config = self._folder / "config.hcl"
        config.write_text(
            _storage(storage, self._folder / "raft")
            + f'api_addr = "{self.url}"\ncluster_addr = "http://127.0.0.1:{cluster}"\n'
            + _listener(plain, limits | {"tls_disable": True})
            + _listener(tls, limits | served)
            + f'audit "file" "file" {{\n  options = {{ file_path = "{self._audit}" }}\n}}\n'
        )
        environment = {"GOGC": "400"} if tuned else {}
        self.process = Process([str(program), "server", f"-config={config}"], self._folder / "server.log", environment)
        self.process.wait_until(self.url + "/v1/sys/health", answers=(200, 501))
        self._token = self._furnish()

    def _furnish(self) -> str:
        made = self._call("sys/init", None, {"secret_shares": 1, "secret_threshold": 1})
        self._call("sys/unseal", None, {"key": made["keys_base64"][0]})
        self.process.wait_until(self.url + "/v1/sys/health")
        root = made["root_token"]
        self._call("sys/mounts/transit", root, {"type": "transit"})
        self._call(f"transit/keys/{KEY}", root, {"type": "aes256-gcm96"})
        self._call("sys/policies/acl/app", root, {"policy": _POLICY})
        answer = self._call("auth/token/create", root, {"policies": ["app"], "no_default_policy": self.tuned, "ttl": "10h"})
        if not self._audit.exists() or not self._audit.stat().st_size:
            raise RuntimeError("the peer writes no audit log: it would be measured without one")
        return str(answer["auth"]["client_token"])

    def _call(self, path: str, token: str | None, body: Any) -> dict[str, Any]:
        headers = {"x-vault-token": token} if token else {}
        request = urllib.request.Request(f"{self.url}/v1/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """Return where load goes, without and with TLS."""
        header = "X-Vault-Token", self._token
        return Endpoint(self.process, self.url, lambda _work: header), Endpoint(self.process, self._tls_url, lambda _work: header)

    def truncate_audit(self) -> None:
        """Empty its audit log between samples: hundreds of megabytes being written back would disturb whoever is next."""
        with self._audit.open("r+b") as log:
            log.truncate()

    def stop(self) -> None:
        """End the server."""
        self.process.stop()


def _storage(kind: str, place: Path) -> str:
    if kind != "raft":
        return f'storage "{kind}" {{}}\n'
    place.mkdir()
    return f'storage "raft" {{\n  path = "{place}"\n  node_id = "one"\n}}\n'


def _listener(port: int, settings: dict[str, Any]) -> str:
    """Return a listener on loopback; the address for a cluster, of which there is none, must be free all the same."""
    settings = {"address": f"127.0.0.1:{port}", "cluster_address": f"127.0.0.1:{free_port()}"} | settings
    lines = "".join(f"  {name} = {json.dumps(value)}\n" for name, value in settings.items())
    return f'listener "tcp" {{\n{lines}}}\n'


def encrypt(plaintext: bytes) -> Work:
    """One plaintext."""
    return Work(f"/v1/transit/encrypt/{KEY}", json.dumps({"plaintext": base64.b64encode(plaintext).decode()}))


def encrypt_batch(plaintext: bytes, items: int) -> Work:
    """The same plaintext many times in one request."""
    item = {"plaintext": base64.b64encode(plaintext).decode()}
    return Work(f"/v1/transit/encrypt/{KEY}", json.dumps({"batch_input": [item] * items}), items)


def data_key() -> Work:
    """A data key of 32 bytes, plain and wrapped."""
    return Work(f"/v1/transit/datakey/plaintext/{KEY}", "{}")


def create_key() -> Work:
    """A new AES-256 key with each request."""
    return Work("/v1/transit/keys/k-@", json.dumps({"type": "aes256-gcm96"}))

"""Keyclave as it is measured: a home made by the real ceremony, the real server process, durable audit, one process.

Nothing is switched off for the measurement but, for the plain rows, TLS; the peer does without there too.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from bench.load import Endpoint, Work
from bench.processes import Process, free_port

TEXT = Path(__file__).resolve().parent.parent / "src"
COMPILED = TEXT.parent / "build" / "compiled"  # by scripts/setup, of the text as it is
ENVIRONMENT = {"PYTHONPATH": os.environ.get("PYTHONPATH") or str(COMPILED if COMPILED.is_dir() else TEXT)}
KEY = "bench"


class Keyclave:
    """One home and its server. `token` is an application's; keys are created with the custodian's. `source` is what it runs."""

    def __init__(
        self, folder: Path, name: str, *, tls: bool, workers: int = 1, store: str = "", source: Path | None = None
    ) -> None:
        self.home = folder / name
        self.port = free_port()
        self._environment = ENVIRONMENT if source is None else {"PYTHONPATH": str(source)}
        made = folder / f"{name}.json"
        program = [sys.executable, "-m", "keyclave.app"]
        init = [
            *program,
            "init",
            "--home",
            str(self.home),
            "--port",
            str(self.port),
            "--out-json",
            str(made),
            "--people",
            "tokens",
            *(["--store", store] if store else []),
        ]
        subprocess.run(init, check=True, env={**os.environ, **self._environment}, stdin=subprocess.DEVNULL)
        self.made: dict[str, Any] = json.loads(made.read_text())
        self.ca_file = self.made["ca_file"]
        self.url = self.made["url"]
        if not tls:
            self.url = self.url.replace("https:", "http:")
            settings = self.home / "keyclave.toml"
            settings.write_text(settings.read_text().replace("[listen]\n", "[listen]\ntls = false\n"))
        self._workers = workers
        self._log = folder / f"{name}.log"
        self._trust = ssl.create_default_context(cafile=self.ca_file)
        self.token = ""
        self._process: Process | None = None

    def copied(self, folder: Path, name: str) -> Keyclave:
        """Return another node of the same installation: a copy of its home, on a port of its own."""
        other = copy.copy(self)
        other.home, other.port, other._log = folder / name, free_port(), folder / f"{name}.log"
        other.url = self.url.rsplit(":", 1)[0] + f":{other.port}"
        shutil.copytree(self.home, other.home, ignore=shutil.ignore_patterns("server.lock"))
        return other

    def start(self) -> float:
        """Start the server; return the seconds to its first answer, sealed as it is."""
        where = ["--home", str(self.home), "--port", str(self.port), "--workers", str(self._workers)]
        self._process = Process([sys.executable, "-m", "keyclave.app", "serve", *where], self._log, self._environment)
        return self._process.wait_until(self.url + "/v1/health", answers=(200, 503))

    def unseal(self) -> None:
        """Open it with as many shares as it takes."""
        for share in self.made["shares"]:
            if not self.post("/v1/unseal", None, {"share": share})["sealed"]:
                break
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it says that it serves; of several workers each, which new connections find by chance."""
        for _ in range(1 if self._workers == 1 else 32 * self._workers):
            self._running().wait_until(self.url + "/v1/health/ready")

    @property
    def pid(self) -> int:
        """The process that answers, which is the only one unless there are workers."""
        return self._running().pid

    def furnish(self) -> None:
        """Make the key that is measured and a credential for what uses it."""
        custodian, operator = (self.made["credentials"][role] for role in ("custodian", "operator"))
        self.post("/v1/keys", custodian, {"name": KEY, "owner": "bench"})
        scope = {"operations": ["encrypt", "decrypt", "data-key", "unwrap", "re-encrypt"], "keys": ["*"]}
        asked = {"principal": "bench", "role": "application", "ttl_seconds": 36_000, "scope": scope}
        self.token = self.post("/v1/credentials", operator, asked)["token"]

    def post(self, path: str, token: str | None, body: Any) -> dict[str, Any]:
        """POST a JSON body."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        trust = self._trust if self.url.startswith("https") else None
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            return dict(json.load(answer))

    def endpoint(self) -> Endpoint:
        """Return where load goes. The server must have been started."""
        return Endpoint(self._running(), self.url, self._header)

    def rss_mib(self) -> float:
        """Return the resident memory of the server in MiB."""
        return self._running().rss_mib()

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process

    def _header(self, work: Work) -> tuple[str, str]:
        token = self.made["credentials"]["custodian"] if work.counted else self.token
        return "Authorization", f"Bearer {token}"

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.stop()


def encrypt(plaintext: bytes) -> Work:
    """One plaintext."""
    return Work(f"/v1/keys/{KEY}/encrypt", json.dumps({"plaintext": base64.b64encode(plaintext).decode()}))


def encrypt_batch(plaintext: bytes, items: int) -> Work:
    """The same plaintext many times in one request."""
    item = {"plaintext": base64.b64encode(plaintext).decode()}
    return Work(f"/v1/keys/{KEY}/encrypt/batch", json.dumps({"items": [item] * items}), items)


def data_key() -> Work:
    """A data key of 32 bytes, plain and wrapped."""
    return Work(f"/v1/keys/{KEY}/data-key", "{}")


def create_key() -> Work:
    """A new AES-256 key with each request."""
    return Work("/v1/keys", json.dumps({"name": "k-@", "owner": "bench"}))

"""A Keyclave of the demonstration's own: its folder, its server process, and the people who hold something of it.

Everything goes through the interfaces that people and programs have: the commands `keyclave` and `keyclave-verify`, run as
processes, and the SDK. Nothing of the server is imported. The commands run without the caller's own Keyclave settings, and keep
what they remember in the demonstration's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from demo.beginning import undisturbed
from demo.screen import Screen
from keyclave_client import Client
from keyclave_client.errors import Unreachable

_START_SECONDS = 30
_STOP_SECONDS = 15


class House:
    """A home, its server while it runs, and its clients. Used in a `with`: whatever happens, the server ends with it."""

    def __init__(self, folder: Path, port: int, screen: Screen) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.log = folder / "server.log"
        self.port = port or free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._screen = screen
        self._server: subprocess.Popen[bytes] | None = None
        self._clients = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            self._clients.close()
            self.stop()

    def keyclave(self, *words: str) -> str:
        """Run `keyclave` with these words, as a person would, show that, and return what it printed."""
        return self._run("keyclave", "keyclave_cli", words).stdout

    def verify(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run `keyclave-verify`, show that, and return its exit code and its report."""
        done = self._run("keyclave-verify", "keyclave_verify", words, "--json", codes=(0, 1))
        return done.returncode, json.loads(done.stdout)

    def _run(
        self, name: str, package: str, words: tuple[str, ...], *quietly: str, codes: tuple[int, ...] = (0,)
    ) -> subprocess.CompletedProcess[str]:
        self._screen.command(shlex.join((name, *(word.replace(f"{self.folder}/", "") for word in words))))
        command = [sys.executable, "-m", package, *words, *quietly]
        done = subprocess.run(command, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode not in codes:
            raise RuntimeError(f"`{name} {words[0]}` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done

    def start(self) -> None:
        """Start the server and return when it answers."""
        self._screen.command("keyclave serve --home home &")
        command = [sys.executable, "-m", "keyclave_cli", "serve", "--home", str(self.home), "--port", str(self.port)]
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        client, deadline = self.client(), time.monotonic() + _START_SECONDS
        while True:
            try:
                client.health()
                return
            except Unreachable as unreachable:
                if self._server.poll() is not None:
                    raise RuntimeError(f"the server ended with {self._server.returncode}: {self.said()}") from unreachable
                if time.monotonic() > deadline:
                    raise RuntimeError(f"no answer from the server within {_START_SECONDS} s: {self.said()}") from unreachable
                time.sleep(0.02)  # between two looks at the condition

    def stop(self) -> None:
        """End the server, by its own process, and return when it has ended."""
        server, self._server = self._server, None
        if server is None:
            return
        server.terminate()
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def client(self, token: str | None = None) -> Client:
        """Return an SDK client; it is closed with the house."""
        return self._clients.enter_context(Client(self.url, token, ca_file=str(self.home / "tls" / "ca.pem")))

    def said(self) -> str:
        """Return the end of what the server wrote to its log."""
        return self.log.read_text(errors="replace")[-2000:].strip() if self.log.exists() else ""

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("KEYCLAVE_")}
        return ours | {"XDG_CONFIG_HOME": str(self.folder / "configuration"), "NO_COLOR": "1"}


def free_port() -> int:
    """Return a port that was free a moment ago, below those that outgoing connections are given meanwhile."""
    while True:
        port = random.randint(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def read_once(path: Path) -> Any:
    """Read a JSON file that must not stay where it is, and remove it."""
    said = json.loads(path.read_bytes())
    path.unlink()
    return said


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner reads."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)

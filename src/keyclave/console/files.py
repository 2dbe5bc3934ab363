"""The files that pages load: read once, served under an address that holds the digest of all of them.

So a browser keeps them for a year and never shows an old script on a new page; the pages name scripts and styles with their hash
(Subresource Integrity), so that nothing on the way between, a cache or a proxy, can exchange one.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib.resources import files

from keyclave.crypto.digest import sha256

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class File:
    """One file: its content, type, and hash as the pages name it."""

    content: bytes
    kind: str
    integrity: str


class Files:
    """All of them, by name. Read when the server starts."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        for path in sorted(files("keyclave.console").joinpath("static").iterdir(), key=lambda one: one.name):
            kind = _TYPES.get(path.name[path.name.rfind(".") :])
            if kind is not None:
                content = path.read_bytes()
                integrity = "sha256-" + base64.b64encode(sha256(content)).decode()
                self._files[path.name] = File(content, kind, integrity)
        together = sha256("".join(f"{name} {one.integrity}\n" for name, one in self._files.items()).encode())
        self.digest = together.hex()[:16]

    def find(self, digest: str, name: str) -> File | None:
        """Return a file of the current set, or None."""
        return self._files.get(name) if digest == self.digest else None

    def address(self, name: str) -> str:
        """Return where a page loads it from."""
        return f"/ui/static/{self.digest}/{name}"

    def integrity(self, name: str) -> str:
        """Return what a page says it must be."""
        return self._files[name].integrity

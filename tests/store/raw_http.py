"""HTTP byte by byte over TLS, for tests of what well-behaved clients never send. Reads answers strictly by their framing."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.live import Live

TIMEOUT = 20


class Closed(Exception):
    """The server closed the connection before a whole answer."""


@dataclass
class Said:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """One connection."""

    def __init__(self, live: Live, *, tls: bool = True, timeout: float = TIMEOUT) -> None:
        plain = socket.create_connection(("127.0.0.1", live.port), timeout=timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = plain
        if tls:
            self.socket = ssl.create_default_context(cafile=live.ca_file).wrap_socket(plain, server_hostname="localhost")
        self._ahead = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes, piece: int = 0) -> None:
        """Send, `piece` bytes at a time if given."""
        for at in range(0, len(data), piece or max(1, len(data))):
            self.socket.sendall(data[at : at + (piece or len(data))])

    def _more(self) -> None:
        try:
            data = self.socket.recv(65_536)
        except (ConnectionError, ssl.SSLError) as fault:
            raise Closed(str(fault)) from fault
        if not data:
            raise Closed(f"after {self._ahead[:200]!r}")
        self._ahead += data

    def read(self, *, body: bool = True) -> Said:
        """Return the next answer; `body` false for the answer to a HEAD."""
        while b"\r\n\r\n" not in self._ahead:
            self._more()
        head, _, self._ahead = self._ahead.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for name, _, value in (field.partition(": ") for field in fields):
            assert name.lower() not in headers, f"{name} is there twice"
            headers[name.lower()] = value
        if status == "100" or not body:
            return Said(int(status), headers, b"")
        length = int(headers["content-length"])
        while len(self._ahead) < length:
            self._more()
        content, self._ahead = self._ahead[:length], self._ahead[length:]
        return Said(int(status), headers, content)

    def closed(self) -> bool:
        """Tell whether the server closes the connection without another word."""
        try:
            self._more()
        except Closed:
            return self._ahead == b""
        return False


def request(method: str, path: str, token: str = "", body: bytes | None = None, *more: str, version: str = "1.1") -> bytes:
    """Return the bytes of a request; a body gets its Content-Length unless `more` frames it."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *more]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body is not None and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in more):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def chunked(body: bytes, size: int) -> bytes:
    """Return the body in chunks."""
    parts = [b"%x\r\n%b\r\n" % (len(body[at : at + size]), body[at : at + size]) for at in range(0, len(body), size)]
    return b"".join(parts) + b"0\r\n\r\n"

"""Waiting for a browser on this machine to hand a code on: a loopback address, good for one answer (RFC 8252 section 7.3).

Any program of the machine may ask here; only an answer with our state counts, and the code in it is worth nothing without the
verifier, which never leaves this process.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from keyclave_cli.problems import Stop

_STEP_SECONDS = 5  # for a request to arrive whole
_LONGEST_CODE = 2048
_DONE = "Done. The command line goes on; this page can be closed."
_WRONG = "This is not the answer that the command line waits for. Run keyclave login again."


class Loopback:
    """Listens on 127.0.0.1 at a free port until it is closed."""

    def __init__(self) -> None:
        self.state = secrets.token_urlsafe(32)
        self.verifier = secrets.token_urlsafe(32)
        self._code = ""
        self._there = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Loopback({self.port})"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def waiting(self) -> str:
        """What the page is told of us: port, state and challenge."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")
        return f"{self.port}.{self.state}.{challenge}"

    def wait(self, seconds: float) -> str:
        """Return the code, once it is there."""
        if not self._there.wait(seconds):
            raise Stop("nobody finished the login in the browser", "run `keyclave login` again, or add --no-browser")
        return self._code

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, host: str, target: str) -> bool:
        """Take an answer; False where it is not ours. The first that is counts, and no later one."""
        parts = urlsplit(target)
        said = dict(parse_qsl(parts.query))
        ours = parts.path == "/callback" and host == f"127.0.0.1:{self.port}"  # another name means another site's page
        code = said.get("code", "")
        if not ours or not hmac.compare_digest(said.get("state", "").encode(), self.state.encode()):
            return False
        if not code or len(code) > _LONGEST_CODE or self._there.is_set():
            return False
        self._code = code
        self._there.set()
        return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        waiting = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _STEP_SECONDS

            def do_GET(self) -> None:
                taken = waiting.take(self.headers.get("host", ""), self.path)
                text = f"<!doctype html><title>Keyclave</title><p>{_DONE if taken else _WRONG}</p>".encode()
                self.send_response(200 if taken else 400)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(text)))
                self.send_header("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
                self.send_header("referrer-policy", "no-referrer")
                self.send_header("cache-control", "no-store")
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: the address of a request holds the code."""

        return Handler

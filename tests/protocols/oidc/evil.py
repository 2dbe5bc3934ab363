"""An evil provider: it speaks the protocol, and says whatever a test makes it say."""

from __future__ import annotations

import base64
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey, RSAKey

from tests.live import free_port

CLIENT = "keyclave evil"
Json = dict[str, Any]


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass
class Evil:
    """Its lies: `claims` and `header` change a good token, `sign` makes another one of them, `answers` replaces whole answers
    by path: (status, body), or a function that writes to the connection."""

    tls: Path
    port: int = field(default_factory=free_port)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "good", "use": "sig"}))
    claims: Json = field(default_factory=dict)
    header: Json = field(default_factory=dict)
    sign: Callable[[Json, Json], str] | None = None
    tokens: Json = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    keys: list[Json] | None = None
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    nonces: dict[str, str] = field(default_factory=dict)  # by code
    _server: ThreadingHTTPServer | None = None

    @property
    def issuer(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def behave(self) -> None:
        """Tell the truth again."""
        self.claims, self.header, self.sign, self.tokens, self.answers, self.keys = {}, {}, None, {}, {}, None

    def document(self) -> Json:
        return {
            "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/auth", "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys", "code_challenge_methods_supported": ["S256"],
        }  # fmt: skip

    def code_for(self, address: str) -> str:
        """Log somebody in, as the browser would at the address it was sent to, and return the code."""
        said = parse_qs(urlsplit(address).query)
        code = f"code-{len(self.nonces)}"
        self.nonces[code] = said["nonce"][0]
        return code

    def good_claims(self, nonce: str) -> Json:
        now = int(time.time())
        return {
            "iss": self.issuer, "aud": CLIENT, "sub": "victim", "iat": now, "exp": now + 300, "auth_time": now, "nonce": nonce,
        }  # fmt: skip

    def token(self, nonce: str) -> str:
        """Return an ID token as the lies have it; a claim or header of None is left out."""
        said = {**self.good_claims(nonce), **self.claims}
        header = {"alg": "RS256", "kid": "good", **self.header}
        said = {name: value for name, value in said.items() if value is not None}
        header = {name: value for name, value in header.items() if value is not None}
        return self.sign(header, said) if self.sign else signed(self.key, header, said)

    def give(self, form: dict[str, list[str]]) -> Json:
        nonce = self.nonces.get(form["code"][0], "")
        return {"token_type": "Bearer", "access_token": "at", "id_token": self.token(nonce), **self.tokens}

    def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls / "server.pem", self.tls / "server.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


def signed(key: Any, header: Json, claims: Json) -> str:
    """Sign with a key, or with a secret given as bytes: by hand, for a library refuses to make most of these."""
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    data, algorithm = text.encode(), header["alg"]
    hashed = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    if algorithm.startswith("HS"):
        signature = hmac.digest(key, data, "sha256")
    elif algorithm.startswith("ES"):
        r, s = decode_dss_signature(key.private_key.sign(data, ec.ECDSA(hashed)))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    elif algorithm.startswith("PS"):
        signature = key.private_key.sign(data, padding.PSS(padding.MGF1(hashed), hashed.digest_size), hashed)
    else:
        signature = key.private_key.sign(data, padding.PKCS1v15(), hashed)
    return f"{text}.{b64(signature)}"


def unsigned(header: Json, claims: Json) -> str:
    return f"{b64(json.dumps({**header, 'alg': 'none'}).encode())}.{b64(json.dumps(claims).encode())}."


def with_public_key_as_secret(key: RSAKey) -> Callable[[Json, Json], str]:
    """Return a signer that takes the public key, which everybody knows, for an HMAC secret."""

    def sign(header: Json, claims: Json) -> str:
        return signed(key.as_pem(private=False), {**header, "alg": "HS256"}, claims)

    return sign


def with_key_in_header(name: str) -> Callable[[Json, Json], str]:
    """Return a signer with a key of its own, which the token brings or points to."""
    own = ECKey.generate_key("P-256")
    brought: dict[str, Any] = {
        "jwk": dict(own.as_dict(private=False)), "jku": "https://127.0.0.1:1/keys", "x5u": "https://127.0.0.1:1/chain",
        "x5c": [base64.b64encode(own.as_der(private=False)).decode()],
    }  # fmt: skip
    return lambda header, claims: signed(own, {**header, "alg": "ES256", name: brought[name]}, claims)


def with_other_key(header: Json, claims: Json) -> str:
    return signed(RSAKey.generate_key(2048), header, claims)


def with_broken_signature(key: RSAKey) -> Callable[[Json, Json], str]:
    def sign(header: Json, claims: Json) -> str:
        head, _, signature = signed(key, header, {**claims, "sub": "somebody-else"}).split(".")
        return f"{head}.{b64(json.dumps(claims).encode())}.{signature}"

    return sign


def half_hash(access_token: str) -> str:
    return b64(sha256(access_token.encode()).digest()[:16])


def _handler(evil: Evil) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answers = {"/.well-known/openid-configuration": evil.document, "/keys": self._keys}
            self._answer(answers.get(self.path, dict)())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            evil.forms.append(parse_qs(body))
            evil.headers.append({name.lower(): value for name, value in self.headers.items()})
            self._answer(evil.give(parse_qs(body)))

        def _keys(self) -> Json:
            return {"keys": [dict(evil.key.as_dict(private=False))] if evil.keys is None else evil.keys}

        def _answer(self, content: Json) -> None:
            evil.asked.append(self.path)
            other = evil.answers.get(self.path)
            if callable(other):
                other(self)
                return
            status, body = other or (200, json.dumps(content).encode())
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"{evil.issuer}/elsewhere")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler

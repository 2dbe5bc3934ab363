"""How we prove to a provider who we are: a secret (RFC 6749 section 2.3.1) or a key of ours (RFC 7523, private_key_jwt).

What is held does not print.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from typing import NamedTuple, Protocol
from urllib.parse import quote_plus

from keyclave.core.errors import Malformed

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SECONDS = 60


class Proof(NamedTuple):
    """What goes with one request to the token endpoint."""

    headers: dict[str, str]
    form: dict[str, str]


class Client(Protocol):
    """Proves who we are."""

    def prove(self, endpoint: str, now: int) -> Proof:
        """Return the proof for a request to `endpoint` at `now` (seconds)."""
        ...


class SecretClient:
    """A client with a secret: client_secret_basic."""

    def __init__(self, client_id: str, secret: str) -> None:
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        self._header = "Basic " + base64.b64encode(pair.encode()).decode()

    def __repr__(self) -> str:
        return "SecretClient()"

    def prove(self, endpoint: str, now: int) -> Proof:
        """Return the header; the secret is in no form and no address."""
        return Proof({"authorization": self._header}, {})


class KeyClient:
    """A client with a private key (PEM, PKCS #8): it signs an assertion for each request."""

    def __init__(self, client_id: str, pem: bytes, random: Callable[[int], bytes]) -> None:
        from joserfc.errors import JoseError
        from joserfc.jwk import ECKey, OKPKey, RSAKey

        self._client_id = client_id
        self._random = random
        for kind, algorithm in ((ECKey, "ES256"), (RSAKey, "PS256"), (OKPKey, "EdDSA")):
            try:
                self._key = kind.import_key(pem)
            except (JoseError, ValueError, TypeError):
                continue
            self._algorithm = algorithm
            if self._key.is_private:
                return
        raise Malformed("the client's key cannot be used", "give a P-256, RSA or Ed25519 private key in PEM, without a password")

    def __repr__(self) -> str:
        return "KeyClient()"

    def prove(self, endpoint: str, now: int) -> Proof:
        """Return an assertion that is good for this endpoint, once, for a minute."""
        from joserfc import jwt

        identity = base64.urlsafe_b64encode(self._random(16)).decode().rstrip("=")
        claims = {
            "iss": self._client_id, "sub": self._client_id, "aud": endpoint, "jti": identity, "iat": now, "exp": now + _SECONDS,
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EdDSA is called Ed25519 since RFC 9864; providers still say EdDSA
            signed = jwt.encode({"alg": self._algorithm}, claims, self._key, algorithms=[self._algorithm])
        form = {"client_id": self._client_id, "client_assertion_type": _ASSERTION, "client_assertion": signed}
        return Proof({}, form)

"""What the server answers, as small frozen values: bytes are bytes, secrets do not print.

`decode` turns a JSON object into one of them. Fields that this version does not know are ignored, so that a newer server can be
talked to; a field that it needs and does not find is an error that says which.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from keyclave_client.errors import KeyclaveError

BASE64 = {"base64": True}  # the field travels as standard base64
SECRET = {"base64": True, "secret": True}  # so does this one, and `repr` leaves it out

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A ciphertext and the key version that made it."""

    ciphertext: bytes = field(metadata=BASE64)
    key: str
    version: int
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Decrypted:
    """A plaintext and the key version that opened it."""

    plaintext: bytes = field(metadata=SECRET, repr=False)
    key: str
    version: int
    event: str | None = None


@dataclass(frozen=True, slots=True)
class ReEncrypted:
    """The same plaintext under another key version, key or context."""

    ciphertext: bytes = field(metadata=BASE64)
    key: str
    version: int
    from_version: int
    event: str | None = None


@dataclass(frozen=True, slots=True)
class NewDataKey:
    """A fresh data key: always wrapped, and plain too unless `plaintext=False` was asked."""

    wrapped: bytes = field(metadata=BASE64)
    key: str
    version: int
    plaintext: bytes | None = field(default=None, metadata=SECRET, repr=False)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class NewDataKeyPair:
    """A fresh key pair: public half as PEM, private half wrapped and, unless `private=False` was asked, as PKCS #8 DER."""

    public_key: str
    wrapped: bytes = field(metadata=BASE64)
    key: str
    version: int
    private_key: bytes | None = field(default=None, metadata=SECRET, repr=False)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Caller's key material, wrapped."""

    wrapped: bytes = field(metadata=BASE64)
    key: str
    version: int
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """Key material, plain again."""

    material: bytes = field(metadata=SECRET, repr=False)
    key: str
    version: int
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, its algorithm and the key version that made it."""

    signature: bytes = field(metadata=BASE64)
    algorithm: str
    version: int
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Mac:
    """A message authentication code, its algorithm and the key version that made it."""

    mac: bytes = field(metadata=BASE64)
    algorithm: str
    version: int
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """It verified (what does not is `InvalidSignature`)."""

    version: int | None = None
    algorithm: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Random:
    """Random bytes."""

    random: bytes = field(metadata=SECRET, repr=False)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """A shared secret, and the ciphertext that carries it when it was encapsulated."""

    shared_secret: bytes = field(metadata=SECRET, repr=False)
    ciphertext: bytes | None = field(default=None, metadata=BASE64)
    version: int | None = None
    event: str | None = None


def decode(kind: type[T], body: Mapping[str, Any]) -> T:
    """Return `body` as a `kind`; base64 fields become bytes, lists become tuples."""
    if not isinstance(body, dict):
        raise KeyclaveError("the answer is not a JSON object", "check the address and what stands between")
    values = {f.name: _value(f, body[f.name]) for f in _known(kind) if body.get(f.name) is not None}
    for f in _known(kind):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise KeyclaveError(f"the answer has no field {f.name!r}", "is the server newer or older than this client?")
    return kind(**values)


def part(body: Any, name: str) -> list[Any]:
    """Return the list that stands under `name` in an answer."""
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise KeyclaveError(f"the answer has no list {name!r}", "is the server newer or older than this client?")
    return found


def _known(kind: type[Any]) -> tuple[Field[Any], ...]:
    return fields(kind)


def _value(f: Field[Any], raw: Any) -> Any:
    if f.metadata.get("base64"):
        return from_base64(raw)
    nested = f.metadata.get("each")
    if nested is not None:
        return tuple(decode(nested, item) for item in part({f.name: raw}, f.name))
    return tuple(raw) if isinstance(raw, list) else raw


def from_base64(text: object) -> bytes:
    """Return the bytes of strict standard base64; anything else is an error that does not repeat the text."""
    if isinstance(text, str):
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            pass
    raise KeyclaveError("the answer holds base64 that is none", "check what stands between client and server")


def to_base64(raw: bytes | bytearray | memoryview) -> str:
    """Return standard base64 with padding."""
    return binascii.b2a_base64(raw, newline=False).decode()

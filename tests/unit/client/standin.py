"""A source of data keys that stands in for a server: it really wraps, binds the context, and has key versions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyclave_client.canonical import canonical_map
from keyclave_client.errors import Undecipherable
from keyclave_client.local.datakey import DataKey

KEY_ID = bytes(range(16))
KEY = "key_aaaqeayeaudaocajbifqydiob4"
_HEAD = 25  # marker 3, suite, kind, key id 16, version 4
_FILL = 16 + 32  # message id and commitment of the server's envelope, opaque to the client


class LocalKeys:
    """One key with versions; `calls` counts what would have been requests, `before` runs in front of each."""

    def __init__(self) -> None:
        self.kek = AESGCM(os.urandom(32))
        self.version = 1
        self.calls = 0
        self.before: Callable[[], None] = lambda: None
        self.given: list[bytearray] = []  # the very buffers handed out, to see whether they were wiped

    def fresh(self, context: Mapping[str, str]) -> DataKey:
        """Make a data key."""
        self._call()
        plain = bytearray(os.urandom(32))
        wrapped = self._wrap(bytes(plain), context)
        return self._give(plain, wrapped)

    def open(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        """Open a wrapped data key."""
        self._call()
        return self._give(bytearray(self._unwrap(wrapped, context)), wrapped)

    def rewrap(self, wrapped: bytes, context: Mapping[str, str], to_key: str | None) -> bytes:
        """Wrap the same data key by the current version."""
        self._call()
        return self._wrap(self._unwrap(wrapped, context), context)

    def _call(self) -> None:
        self.calls += 1
        self.before()

    def _give(self, plain: bytearray, wrapped: bytes) -> DataKey:
        self.given.append(plain)
        return DataKey(plain, wrapped)

    def _wrap(self, plain: bytes, context: Mapping[str, str]) -> bytes:
        head = b"KC\x01\x01\x02" + KEY_ID + self.version.to_bytes(4, "big") + os.urandom(_FILL)
        iv = os.urandom(12)
        return head + iv + self.kek.encrypt(iv, plain, head + canonical_map(context))

    def _unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        split = _HEAD + _FILL
        try:
            head, iv, sealed = wrapped[:split], wrapped[split : split + 12], wrapped[split + 12 :]
            return self.kek.decrypt(iv, sealed, head + canonical_map(context))
        except (InvalidTag, ValueError):
            raise Undecipherable from None

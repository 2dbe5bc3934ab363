"""Encryption contexts as they are authenticated and as the log shows them, worked out once for those that come again.

The log holds keyed hashes of context values (promise 8), and a hash costs two microseconds, as much as the canonical bytes do.
Services ask for the same patient's or ward's context many times in a row, so the last few thousand are remembered, by tenant.
Values lie in memory for as long as that, and are forgotten when the server is sealed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from keyclave.core.canonical import canonical
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.suites import MacAlgorithm
from keyclave.envelope.context import encode_context
from keyclave.operations.keyring import Keyring

CAPACITY = 8_192  # contexts, and as many again of single values
_LONGEST = 512  # canonical bytes of a context that is remembered: so all of them take some 12 MB at most


class Known:
    """A context whose form was checked: its canonical bytes, and what the log records of it, sorted by name. Never changed."""

    __slots__ = ("encoded", "recorded")

    def __init__(self, encoded: bytes, recorded: dict[str, list[str]]) -> None:
        self.encoded = encoded
        self.recorded = recorded


class Contexts:
    """Checks, encodes and hashes contexts, and remembers."""

    def __init__(self, module: CryptoModule, keyring: Keyring, plain: frozenset[str]) -> None:
        """`plain` are the names whose values policy lets the log show."""
        self._module = module
        self._keyring = keyring
        self._plain = plain
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], Known] = {}
        self._tags: dict[tuple[str, str, str], str] = {}

    def of(self, tenant: str, context: Mapping[str, str]) -> Known:
        """Return what is known of a context; `Malformed` or `TooLarge` for one of the wrong form."""
        asked = (tenant, tuple(context.items()))
        known = self._known.get(asked)
        if known is None:
            encoded = encode_context(context)
            known = Known(encoded, {name: [self.tag(tenant, name, context[name])] for name in sorted(context)})
            if len(encoded) <= _LONGEST:
                if len(self._known) >= CAPACITY:
                    self._known.clear()
                self._known[asked] = known
        return known

    def tag(self, tenant: str, name: str, value: str) -> str:
        """Return what the log records of a context value: `h:` and a keyed hash, or `p:` and the value where policy allows it.

        The key never leaves the server, so nobody can try values against the log; equal values have equal tags, so exposure
        can be counted and "which events touched patient X" answered by whoever may ask the server.
        """
        asked = (tenant, name, value)
        tag = self._tags.get(asked)
        if tag is None:
            tag = "p:" + value if name in self._plain and len(value) <= 64 else self.hashed(tenant, name, value)
            if len(self._tags) >= CAPACITY:
                self._tags.clear()
            self._tags[asked] = tag
        return tag

    def hashed(self, tenant: str, name: str, value: str) -> str:
        """Return the keyed hash of a context value, as the log records it where policy does not make it plain."""
        message = canonical("keyclave/context-tag/1", name, value)
        mac = self._module.mac(self._keyring.tenant_key(tenant, "context"), MacAlgorithm.HMAC_SHA_256, message)
        return "h:" + base64.urlsafe_b64encode(mac[:16]).decode().rstrip("=")

    def forget(self) -> None:
        """Drop everything remembered (on seal)."""
        self._known.clear()
        self._tags.clear()

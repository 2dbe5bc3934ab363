"""The hot path: one derived key for each message, and its commitment (spec/envelope.md).

The 64 derived bytes land in locked memory that each thread keeps for the purpose, and are overwritten before the call returns.
The message key lives on in OpenSSL's context only, which dies with the sealer. That the context takes the key when it is made,
not when it is first used, is a fact of the wheel on which this rests; the self-test checks it (`selftest.py`, "context").
"""

from __future__ import annotations

import hmac
import threading
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyclave.core.errors import Malformed, Undecipherable
from keyclave.crypto.arena import Buffer, Slot
from keyclave.crypto.pyca.symmetric import IV, derive_into

if TYPE_CHECKING:
    from keyclave.crypto.pyca.module import PycaModule

_KEY = 32
_DERIVED = 64
_ZEROS = bytes(_DERIVED)


class Scratch(threading.local):
    """Locked memory for the derived bytes of the message at hand: one for each thread, wiped and returned when the thread
    ends."""

    def __init__(self) -> None:
        self.slot = Slot(_DERIVED)
        self.view = self.slot.view()
        self.key = self.view[:_KEY]
        self.commitment = self.view[_KEY:]


class PycaSealer:
    """A message key and its commitment."""

    __slots__ = ("_encrypt", "_module", "commitment")

    def __init__(self, module: PycaModule, scratch: Scratch) -> None:
        self._module = module
        self._encrypt = AESGCM(scratch.key).encrypt
        self.commitment = bytes(scratch.commitment)

    def seal(self, iv: bytes, plaintext: Buffer, aad: bytes) -> bytes:
        """Return ciphertext and tag (SP 800-38D section 7.1). `iv`: 12 bytes, never twice for one sealer."""
        if not self._module.ready:
            self._module.admit()
        if len(iv) != IV:
            raise Malformed(f"an IV has {IV} bytes, not {len(iv)}", "this is a fault of the server: report it")
        return self._encrypt(iv, plaintext, aad)


def sealer(module: PycaModule, scratch: Scratch, key: Slot, info: bytes) -> PycaSealer:
    """Derive the key and commitment of a message."""
    try:
        derive_into(key, info, scratch.view)
        return PycaSealer(module, scratch)
    finally:
        scratch.view[:] = _ZEROS


def open_message(scratch: Scratch, key: Slot, info: bytes, commitment: bytes, iv: bytes, sealed: Buffer, aad: bytes) -> bytes:
    """Return the plaintext if commitment and tag hold; anything else is `Undecipherable`."""
    try:
        derive_into(key, info, scratch.view)
        if not hmac.compare_digest(scratch.commitment, commitment) or len(iv) != IV:
            raise Undecipherable
        return AESGCM(scratch.key).decrypt(iv, sealed, aad)
    except (InvalidTag, ValueError):  # ValueError: less than a tag
        raise Undecipherable from None
    finally:
        scratch.view[:] = _ZEROS

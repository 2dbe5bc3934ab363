"""The hot path: one derived key for each message, and its commitment (spec/envelope.md).

The 64 derived bytes land in locked memory that each thread keeps for the purpose, and are overwritten before the call returns.
The message key lives on in OpenSSL's context only, which dies with the sealer. That the context takes the key when it is made,
not when it is first used, is a fact of the wheel on which this rests; the self-test checks it (`selftest.py`, "context").
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Sequence
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
        whole = self.slot.view()
        # in one piece, for each look into a thread's own attributes costs as much as a small computation
        self.views = whole, whole[:_KEY], whole[_KEY:]


class PycaSealer:
    """A message key and its commitment."""

    __slots__ = ("_encrypt", "_module", "commitment")

    def __init__(self, module: PycaModule, encrypt: Callable[[bytes, Buffer, bytes], bytes], commitment: bytes) -> None:
        self._module = module
        self._encrypt = encrypt
        self.commitment = commitment

    def seal(self, iv: bytes, plaintext: Buffer, aad: bytes) -> bytes:
        """Return ciphertext and tag (SP 800-38D section 7.1). `iv`: 12 bytes, never twice for one sealer."""
        if not self._module.ready:
            self._module.admit()
        if len(iv) != IV:
            raise _wrong_ivs()
        return self._encrypt(iv, plaintext, aad)

    def seal_all(self, ivs: Sequence[bytes], plaintexts: Sequence[Buffer], aads: Sequence[bytes]) -> list[bytes]:
        """Return ciphertext and tag of each part."""
        if not self._module.ready:
            self._module.admit()
        if len(plaintexts) != len(ivs) or len(aads) != len(ivs) or not _LENGTHS.issuperset(map(len, ivs)):
            raise _wrong_ivs()
        return list(map(self._encrypt, ivs, plaintexts, aads))


_LENGTHS = frozenset({IV})


def _wrong_ivs() -> Malformed:
    return Malformed(f"each part has an IV of {IV} bytes", "this is a fault of the server: report it")


def sealer(module: PycaModule, scratch: Scratch, key: Slot, info: bytes) -> PycaSealer:
    """Derive the key and commitment of a message."""
    whole, derived, commitment = scratch.views
    try:
        derive_into(key, info, whole)
        return PycaSealer(module, AESGCM(derived).encrypt, bytes(commitment))
    finally:
        whole[:] = _ZEROS


def open_message(scratch: Scratch, key: Slot, info: bytes, commitment: bytes, iv: bytes, sealed: Buffer, aad: bytes) -> bytes:
    """Return the plaintext if commitment and tag hold; anything else is `Undecipherable`."""
    whole, derived, derived_commitment = scratch.views
    try:
        derive_into(key, info, whole)
        if not hmac.compare_digest(derived_commitment, commitment) or len(iv) != IV:
            raise Undecipherable
        return AESGCM(derived).decrypt(iv, sealed, aad)
    except (InvalidTag, ValueError):  # ValueError: less than a tag
        raise Undecipherable from None
    finally:
        whole[:] = _ZEROS

"""The software root: its key lives in locked memory only, and at rest under a recovery key that the custodians hold in shares.

    recovery key  --(M of N shares)-->  custodians
    root key      --(sealed under the recovery key)-->  the store
    tenant keys   --(sealed under the root key)-->  the store

The root key never changes hands; a new set of shares reseals it under a new recovery key.
"""

from __future__ import annotations

from keyclave.core.canonical import canonical
from keyclave.core.errors import Broken, Sealed
from keyclave.crypto.arena import Slot, slot_from
from keyclave.crypto.module import CryptoModule

KEY_BYTES = 32


class SoftwareRoot:
    """A root whose key is in this process, once unsealed."""

    def __init__(self, module: CryptoModule, *, development: bool) -> None:
        self.kind = "development-file" if development else "software"
        self._module = module
        self._key: Slot | None = None

    @property
    def sealed(self) -> bool:
        """Tell whether the key is absent."""
        return self._key is None

    def open(self, recovery: Slot, sealed_root: bytes) -> None:
        """Take the root key out of its wrapping; a recovery key that is not the one raises `Undecipherable`."""
        self._key = self._module.open_slot(recovery, sealed_root, _AT_REST)

    def give(self) -> Slot:
        """Return a copy of the key."""
        return slot_from(self._held().view())

    def take(self, key: Slot) -> None:
        """Hold a key that another process gave."""
        if len(key) != KEY_BYTES:
            raise Broken("what was handed over is not a root key", "restart the server and unseal it")
        self.seal()
        self._key = key

    def seal(self) -> None:
        """Wipe the key."""
        if self._key is not None:
            self._key.wipe()
            self._key = None

    def protect(self, secret: Slot, context: bytes) -> bytes:
        """Seal `secret` under the root key."""
        return self._module.seal(self._held(), secret, canonical("keyclave/root/protect/1", context))

    def recover(self, wrapped: bytes, context: bytes) -> Slot:
        """Open what `protect` made."""
        return self._module.open_slot(self._held(), wrapped, canonical("keyclave/root/protect/1", context))

    def health(self) -> None:
        """Protect and recover a fresh secret and compare."""
        with self._module.random_slot(KEY_BYTES) as secret:
            again = self.recover(self.protect(secret, b"health"), b"health")
            if not secret.same_as(again):
                raise Broken("the root does not give back what it took", "do not use this server; restore from a known good one")
            again.wipe()

    def _held(self) -> Slot:
        if self._key is None:
            raise Sealed
        return self._key


_AT_REST = canonical("keyclave/root/at-rest/1")


def new_root(module: CryptoModule, recovery: Slot) -> bytes:
    """Make a root key and return it sealed under `recovery`, having read it back: what does not open is never kept."""
    with module.random_slot(KEY_BYTES) as key:
        sealed = module.seal(recovery, key, _AT_REST)
        with module.open_slot(recovery, sealed, _AT_REST) as again:
            if not key.same_as(again):
                raise Broken("the new root key does not open", "run the ceremony again")
    return sealed

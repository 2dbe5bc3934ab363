"""What a root of trust can do. Extra powers (attest, generate inside) are separate protocols of the roots that have them."""

from __future__ import annotations

from typing import Protocol

from keyclave.crypto.arena import Slot


class Root(Protocol):
    """Protects a few keys: those of the tenants and of the log. Contexts are canonical bytes and authenticated."""

    kind: str

    def protect(self, secret: Slot, context: bytes) -> bytes:
        """Return the secret wrapped under the root, bound to `context`."""
        ...

    def recover(self, wrapped: bytes, context: bytes) -> Slot:
        """Return what `protect` wrapped; `Sealed` while the root holds no key."""
        ...

    def health(self) -> None:
        """Do a real round trip; raise what is wrong."""
        ...


class SealableRoot(Root, Protocol):
    """A root that must be opened by its custodians and can be sealed again."""

    @property
    def sealed(self) -> bool:
        """Tell whether the root's key is absent."""
        ...

    def open(self, recovery: Slot, sealed_root: bytes) -> None:
        """Take the root key out of its wrapping; a recovery key that is not the one raises `Undecipherable`."""
        ...

    def give(self) -> Slot:
        """Return a copy of what opens the root in another process; `Sealed` while it holds no key."""
        ...

    def take(self, key: Slot) -> None:
        """Be open by what `give` returned in another process; `key` belongs to the root from now on."""
        ...

    def seal(self) -> None:
        """Wipe the key."""
        ...

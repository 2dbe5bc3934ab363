"""What the people room keeps in memory: how it asks for passkeys, its ceremonies, how long sessions last, who tried too often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.core.canonical import canonical
from keyclave.crypto.digest import keyed
from keyclave.identity.assurance import SessionLimits
from keyclave.identity.passkeys import Relying
from keyclave.operations.people.backoff import Backoff
from keyclave.operations.people.ceremonies import Ceremonies
from keyclave.operations.people.passwords import PasswordRoom

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule

SECRET = "people.secret"  # in the store's settings: what hides which principals exist; not a key to anything


class People:
    """One for a desk."""

    def __init__(self, module: CryptoModule, relying: Relying, limits: SessionLimits, secret: bytes) -> None:
        self.relying = relying
        self.limits = limits
        self.ceremonies = Ceremonies(module)
        self.backoff = Backoff()
        self.passwords = PasswordRoom(module)
        self._secret = secret

    def user_handle(self, tenant: str, principal: str) -> bytes:
        """Return the handle that a passkey keeps of its owner: it tells nothing of them (WebAuthn section 14.6.1)."""
        return keyed(self._secret, canonical("keyclave/user-handle/1", tenant, principal))

    def decoy(self, tenant: str, principal: str) -> bytes:
        """Return the credential id shown for somebody who has no passkey or does not exist: always the same one."""
        return keyed(self._secret, canonical("keyclave/decoy/1", tenant, principal))

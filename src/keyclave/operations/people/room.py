"""What the people room keeps in memory: how it asks for passkeys, its ceremonies, how long sessions last, who tried too often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.core.canonical import canonical
from keyclave.core.errors import LimitReached
from keyclave.crypto.digest import keyed
from keyclave.identity.assurance import SessionLimits
from keyclave.identity.lockout import Lockout
from keyclave.identity.passkeys import Relying
from keyclave.operations.people.ceremonies import Ceremonies
from keyclave.operations.people.devices import Devices
from keyclave.operations.people.passwords import PasswordRoom

if TYPE_CHECKING:
    from keyclave.core.clock import Clock
    from keyclave.crypto.module import CryptoModule
    from keyclave.operations.people.sign_on_room import House

SECRET = "people.secret"  # in the store's settings: what hides which principals exist; not a key to anything


class People:
    """One for a desk."""

    def __init__(self, module: CryptoModule, clock: Clock, relying: Relying, limits: SessionLimits, secret: bytes) -> None:
        self.relying = relying
        self.limits = limits
        self.ceremonies = Ceremonies(module)
        self.lockout = Lockout(clock)
        self.passwords = PasswordRoom(module)
        self.home = ""  # id of the home tenant, once somebody asked
        self.devices = Devices(module)
        self.houses: dict[str, House] = {}  # providers of single sign-on, by name
        self.signing_on = 0  # answers of providers that are being looked at
        self._secret = secret

    def user_handle(self, tenant: str, principal: str) -> bytes:
        """Return the handle that a passkey keeps of its owner: it tells nothing of them (WebAuthn section 14.6.1)."""
        return keyed(self._secret, canonical("keyclave/user-handle/1", tenant, principal))

    def decoy(self, tenant: str, principal: str) -> bytes:
        """Return the credential id shown for somebody who has no passkey or does not exist: always the same one."""
        return keyed(self._secret, canonical("keyclave/decoy/1", tenant, principal))

    def claim(self, tenant: str, principal: str, address: str) -> None:
        """Let a try begin, counted as failed until it succeeds; raise `LimitReached` while it is too early for one."""
        _refuse(self.lockout.claim(f"{tenant}/{principal}", address))

    def proved(self, tenant: str, principal: str, address: str) -> None:
        """Take the failures back: the try succeeded."""
        self.lockout.succeeded(f"{tenant}/{principal}", address)

    def check_place(self, address: str) -> None:
        """Raise `LimitReached` while an address, whatever it asks for, failed too often."""
        _refuse(self.lockout.wait("", address))

    def failed_at(self, address: str) -> None:
        """Count a failure of an address that named nobody."""
        self.lockout.failed("", address)


def _refuse(seconds: float) -> None:
    if seconds:
        hint = "wait, or log in with a passkey"
        raise LimitReached(f"too many failures: wait {max(1, round(seconds))} s", hint, seconds)

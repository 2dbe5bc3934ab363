"""The people room: how it asks for passkeys, its ceremonies, how long sessions last, who tried too often.

Failures that can be guesses at a person's secret are counted twice. In memory, by name and network, from the moment a try begins;
in the store, with the event of the failure, so that whoever goes from node to node is slowed down like whoever stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import LimitReached
from keyclave.crypto.digest import keyed
from keyclave.identity.assurance import SessionLimits
from keyclave.identity.lockout import QUIET, Lockout, held_until, network_of
from keyclave.identity.passkeys import Relying
from keyclave.operations.people.ceremonies import Ceremonies
from keyclave.operations.people.devices import Devices
from keyclave.operations.people.passwords import PasswordRoom
from keyclave.store import moments

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from keyclave.core.clock import Clock
    from keyclave.crypto.module import CryptoModule
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.people.sign_on_room import House
    from keyclave.store.interface import Store

SECRET = "people.secret"  # in the store's settings: what hides which principals exist; not a key to anything
_PLACE = 64  # characters of a network that are kept


class People:
    """One for a desk."""

    def __init__(
        self, module: CryptoModule, clock: Clock, relying: Relying, limits: SessionLimits, secret: bytes, store: Store
    ) -> None:
        self._clock = clock
        self._store = store
        self.relying = relying
        self.limits = limits
        self.ceremonies = Ceremonies(module, secret)
        self.lockout = Lockout(clock)
        self.passwords = PasswordRoom(module)
        self.home = ""  # id of the home tenant, once somebody asked
        self.devices = Devices(module, secret)
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
        name, now = f"{tenant}/{principal}", self._clock.now()
        _refuse(self.lockout.wait(name, address))
        count, last = self._store.read(lambda conn: moments.read_failed(conn, self._of_failures(name, address), now))
        _refuse(max(0, held_until(count, last, now) - now) / MICROSECONDS)
        _refuse(self.lockout.claim(name, address))

    def failed(self, transaction: Connection, tenant: str, principal: str, address: str, at: int) -> None:
        """Count a try that failed, for every node, inside the transaction of its event."""
        name = self._of_failures(f"{tenant}/{principal}", address)
        moments.count_failed(transaction, name, network_of(address)[:_PLACE], at, QUIET)

    def proved(self, transaction: Connection, attempt: Attempt, tenant: str, principal: str) -> None:
        """Take the failures back, inside the transaction of a try that succeeded; in memory once it is durable."""
        name, address = f"{tenant}/{principal}", attempt.peer.address
        moments.forget_failed(transaction, self._of_failures(name, address))
        attempt.after = lambda: self.lockout.succeeded(name, address)

    def _of_failures(self, name: str, address: str) -> bytes:
        return keyed(self._secret, canonical("keyclave/failures/1", name, network_of(address)))

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

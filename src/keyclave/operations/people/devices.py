"""Logins that a machine without a browser waits for (RFC 8628): in memory only, few, and over in ten minutes.

A restart ends them all, which loses nobody anything but a minute. The code that a person types is short, so what may be tried is
bounded: where it is asked for, by whom (`device_login`); here, by how many wait at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import LimitReached
from keyclave.crypto.digest import sha256
from keyclave.identity.lockout import network_of

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule

SECONDS = 600
INTERVAL = 5  # seconds between two questions of a machine; one that asks sooner is told to slow down by as much again
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so no words; no letters that look like digits (RFC 8628 section 6.1)
_LENGTH = 8  # 20^8: 34 bits, against a few tries in ten minutes
_MOST = 2048
_MOST_OF_ONE = 8  # from one address or /64 network


@dataclass
class Waiting:
    """A machine that waits. `granted_by`: tenant, principal and session of whoever let it in. Times in microseconds."""

    digest: bytes
    user_code: str
    address: str
    began_at: int
    until: int
    interval: int = INTERVAL
    asked_at: int = 0
    denied: bool = False
    granted_by: tuple[str, str, str] | None = field(default=None, repr=False)


class Devices:
    """Holds them. The event loop owns it."""

    def __init__(self, module: CryptoModule) -> None:
        self._module = module
        self._by_digest: dict[bytes, Waiting] = {}
        self._by_code: dict[str, Waiting] = {}

    def begin(self, digest: bytes, address: str, now: int) -> Waiting:
        """Let a machine wait; `digest` is the SHA-256 of its device code. Refused where too many wait already."""
        self._drop_over(now)
        place = network_of(address)
        here = sum(network_of(one.address) == place for one in self._by_digest.values())
        if here >= _MOST_OF_ONE or len(self._by_digest) >= _MOST:
            raise LimitReached("too many machines wait for a login", "finish one of them, or wait ten minutes")
        code = self._new_code()
        one = Waiting(digest, code, address, now, now + SECONDS * MICROSECONDS)
        self._by_digest[digest] = self._by_code[code] = one
        return one

    def of_machine(self, device_code: str, now: int) -> Waiting | None:
        """Return what a machine's own code names, or None where there is none or it is over."""
        return self._live(self._by_digest.get(sha256(device_code.encode())), now)

    def of_person(self, typed: str, now: int) -> Waiting | None:
        """Return what a typed code names, or None; case, dashes and spaces do not matter."""
        return self._live(self._by_code.get("".join(letter for letter in typed.upper() if letter in LETTERS)), now)

    def end(self, one: Waiting) -> None:
        """Forget one: it is used up or denied."""
        self._by_digest.pop(one.digest, None)
        self._by_code.pop(one.user_code, None)

    def _live(self, one: Waiting | None, now: int) -> Waiting | None:
        return one if one is not None and now < one.until else None

    def _drop_over(self, now: int) -> None:
        for one in [one for one in self._by_digest.values() if now >= one.until]:
            self.end(one)

    def _new_code(self) -> str:
        """Return a code that nobody waits under; bytes of 240 and above are passed over, so every letter is as likely."""
        while True:
            drawn = [byte for byte in self._module.random(4 * _LENGTH) if byte < 240][:_LENGTH]
            code = "".join(LETTERS[byte % 20] for byte in drawn)
            if len(code) == _LENGTH and code not in self._by_code:
                return code


def shown(code: str) -> str:
    """Return a code as people read it."""
    return f"{code[:4]}-{code[4:]}"

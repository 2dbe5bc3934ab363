"""Logins that a machine without a browser waits for (RFC 8628): rows that every node knows, few, and over in ten minutes.

Of both codes only digests are kept. The code that a person types is short, so what may be tried is bounded: where it is asked
for, by whom (`device_login`); here, by how many wait at once. Beginning one is the only thing that somebody unknown can have
written to the store before they prove anything, which is why an address may begin few.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import LimitReached, Unavailable
from keyclave.crypto.digest import keyed, sha256
from keyclave.identity.lockout import network_of
from keyclave.store.moments import Moment, count_waiting, find_code, find_moment, keep_moment, replace_held

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule

KIND = "device"
SECONDS = 600
INTERVAL = 5  # seconds between two questions of a machine; one that asks sooner is told to slow down by as much again
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so no words; no letters that look like digits (RFC 8628 section 6.1)
_LENGTH = 8  # 20^8: 34 bits, against a few tries in ten minutes
_MOST = 2048
_COUNTED = MICROSECONDS  # how long the number of all that wait is taken as known
_MOST_OF_ONE = 8  # from one address or /64 network
_SLOWEST = 60
_TRIES = 8  # codes drawn for a machine: that one of 2048 is taken happens once in ten million
_OWNER = 64


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a machine. `granted_by`: tenant, principal and session of whoever let it in, or nothing."""

    address: str
    denied: bool = False
    granted_by: tuple[str, str, str] | None = None


_held = msgspec.json.Decoder(Held).decode


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that waits, as the store knows it."""

    moment: Moment
    held: Held


class Devices:
    """Finds them; and remembers, at this node alone, how often each asked. The event loop owns it."""

    def __init__(self, module: CryptoModule, secret: bytes) -> None:
        self._module = module
        self._secret = secret
        self._paces: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # by digest: when it asked last, and its interval
        self._all = 0  # how many wait, as far as this node knows, and when it counted them
        self._counted_at = -_COUNTED

    def check_room(self, conn: Connection, address: str, now: int) -> None:
        """Refuse where too many wait already, from one place or at all.

        Anybody may ask, so asking must not cost the more, the more wait. Those of one place are few. All are counted once a
        second at most, and those begun here meanwhile added: other nodes may exceed the bound by what they begin in a second.
        """
        if not 0 <= now - self._counted_at < _COUNTED:
            self._all, self._counted_at = count_waiting(conn, KIND, now), now
        if self._all >= _MOST or count_waiting(conn, KIND, now, _owner(address)) >= _MOST_OF_ONE:
            raise LimitReached("too many machines wait for a login", "finish one of them, or wait ten minutes")

    def begin(self, transaction: Connection, digest: bytes, address: str, now: int) -> str:
        """Let a machine wait and return the code for its person; `digest` is the SHA-256 of its device code."""
        self.check_room(transaction, address, now)
        for _ in range(_TRIES):
            code = self.new_code()
            moment = Moment(
                kind=KIND,
                name=digest,
                code=self._of_code(code),
                owner=_owner(address),
                held=msgspec.json.encode(Held(address=address)),
                made_at=now,
                expires_at=now + SECONDS * MICROSECONDS,
            )
            if keep_moment(transaction, moment):
                self._all += 1
                return code
        raise Unavailable("no code is free", "begin again")

    def of_machine(self, conn: Connection, device_code: str, now: int) -> Waiting | None:
        """Return what a machine's own code names, or None where there is none or it is over."""
        return _waiting(find_moment(conn, KIND, sha256(device_code.encode()), now))

    def of_person(self, conn: Connection, typed: str, now: int) -> Waiting | None:
        """Return what a typed code names, or None; case, dashes and spaces do not matter."""
        return _waiting(find_code(conn, KIND, self._of_code(plain(typed)), now))

    def decide(self, transaction: Connection, one: Waiting, granted_by: tuple[str, str, str] | None) -> bool:
        """Let a machine in, or turn it away; False where somebody else decided first."""
        if one.held.denied or one.held.granted_by is not None:
            return False
        held = Held(address=one.held.address, denied=granted_by is None, granted_by=granted_by)
        return replace_held(transaction, one.moment, msgspec.json.encode(held))

    def pace(self, one: Waiting, now: int) -> tuple[bool, int]:
        """Tell whether a machine asks too soon, and how many seconds it should wait for its next question."""
        asked_at, interval = self._paces.get(one.moment.name, (0, INTERVAL))
        too_soon = asked_at > 0 and now - asked_at < interval * MICROSECONDS * 9 // 10
        if too_soon:
            interval = min(interval + INTERVAL, _SLOWEST)
        self._paces[one.moment.name] = (now, interval)
        self._paces.move_to_end(one.moment.name)
        if len(self._paces) > _MOST:
            self._paces.popitem(last=False)
        return too_soon, interval

    def new_code(self) -> str:
        """Return a random code; bytes of 240 and above are passed over, so every letter is as likely."""
        while True:
            drawn = [byte for byte in self._module.random(4 * _LENGTH) if byte < 240][:_LENGTH]
            if len(drawn) == _LENGTH:
                return "".join(LETTERS[byte % 20] for byte in drawn)

    def _of_code(self, code: str) -> bytes:
        return keyed(self._secret, canonical("keyclave/user-code/1", code))


def plain(typed: str) -> str:
    """Return the letters of a code, however it was typed."""
    return "".join(letter for letter in typed.upper() if letter in LETTERS)


def shown(code: str) -> str:
    """Return a code as people read it."""
    return f"{code[:4]}-{code[4:]}"


def _owner(address: str) -> str:
    return network_of(address)[:_OWNER]


def _waiting(moment: Moment | None) -> Waiting | None:
    return None if moment is None else Waiting(moment=moment, held=_held(moment.held))

"""Sealed or not: the root key comes back from the custodians' shares, and goes when the server is sealed.

Shares are collected one by one (each is an event). Wrong ones are slowed down: after a failed attempt the next is taken only when
its waiting time is over, so nobody can try shares at speed, and a set that does not open is thrown away whole.
"""

from __future__ import annotations

from keyclave.core.clock import MICROSECONDS, Clock
from keyclave.core.errors import LimitReached, Malformed, Undecipherable, WrongState
from keyclave.crypto.arena import Slot
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.shares import Share, combine
from keyclave.roots.root import Root, SealableRoot

_FIRST_WAIT = MICROSECONDS  # after the first failure; doubled by each further one
_LONGEST_WAIT = 60 * MICROSECONDS


class Vault:
    """Holds the root, and the shares on their way to it."""

    def __init__(
        self,
        root: SealableRoot,
        module: CryptoModule,
        clock: Clock,
        sealed_root: bytes,
        check: str,
        set_id: bytes,
        threshold: int,
    ) -> None:
        self._root = root
        self._module = module
        self._clock = clock
        self._sealed_root = sealed_root
        self._check = check
        self._set_id = set_id
        self.threshold = threshold
        self._shares: list[Share] = []
        self._failures = 0
        self._not_before = 0
        self.given = 0  # the number of the share that was offered last; 0 if it was none of this set

    @property
    def set_id(self) -> str:
        """The ceremony's mark on its shares, in hexadecimal."""
        return self._set_id.hex()

    @property
    def root(self) -> Root:
        """The root, for what must be protected or recovered."""
        return self._root

    @property
    def sealed(self) -> bool:
        """Tell whether the root key is absent."""
        return self._root.sealed

    @property
    def received(self) -> int:
        """How many shares are waiting for the rest."""
        return len(self._shares)

    def expect_share(self) -> None:
        """Refuse a share at a time when none is taken."""
        if not self.sealed:
            raise already_open()
        now = self._clock.now()
        if now < self._not_before:
            wait = -(-(self._not_before - now) // MICROSECONDS)
            raise LimitReached("a share was refused a moment ago", f"try again in {wait} s")

    def offer(self, text: str) -> bool:
        """Take a share; return True when it was the last one needed and the root is open."""
        self.given = 0
        try:
            self._accept(Share.from_text(text))
            if len(self._shares) < self.threshold:
                return False
            self._open()
        except (Malformed, Undecipherable):
            self._failures += 1
            wait = min(_FIRST_WAIT << min(self._failures - 1, 10), _LONGEST_WAIT)
            self._not_before = self._clock.now() + wait
            raise
        self._failures = 0
        return True

    def _accept(self, share: Share) -> None:
        if any(s.index == share.index and s.set_id == share.set_id for s in self._shares):
            raise Malformed("this share was given already", "another custodian gives another one")
        if share.set_id != self._set_id:
            raise Malformed("this share belongs to another set", "give one of this server's ceremony")
        self.given = share.index
        self._shares.append(share)

    def _open(self) -> None:
        shares, self._shares = self._shares, []
        try:
            with combine(shares, self._check, self._module) as recovery:
                self.open_with(recovery)
        finally:
            for share in shares:
                share.wipe()

    def open_with(self, recovery: Slot) -> None:
        """Open the root with the recovery key itself (the development file; the ceremony's own test)."""
        self._root.open(recovery, self._sealed_root)

    def give_root(self) -> Slot:
        """Return a copy of the root's key, for another process of the same home."""
        return self._root.give()

    def take_root(self, key: Slot) -> None:
        """Take the root's key from another process of the same home. Shares that wait are wiped: they are not needed."""
        self.seal()
        self._root.take(key)

    def seal(self) -> None:
        """Wipe the root key and the shares that wait."""
        for share in self._shares:
            share.wipe()
        self._shares = []
        self._root.seal()


def already_open() -> WrongState:
    """Return the answer to a share that is not needed."""
    return WrongState("the server is unsealed already", "nothing to do")

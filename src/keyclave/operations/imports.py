"""Imports under way: the one-time keys to which key material is wrapped on its way in."""

from __future__ import annotations

from keyclave.core.errors import LimitReached, Malformed
from keyclave.crypto.arena import Slot
from keyclave.crypto.module import KeyPair

_WAITING = 16  # imports of a tenant under way at once


class Imports:
    """Imports under way: one-time private keys in locked memory, gone with the process."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, KeyPair, int]] = {}

    def offer(self, tenant: str, pair: KeyPair, expires: int, token: str, now: int) -> str:
        """Keep `pair` for one import until `expires`."""
        self._expire(now)
        if sum(1 for owner, _, _ in self._open.values() if owner == tenant) >= _WAITING:
            raise LimitReached("too many imports are under way", "finish one, or wait an hour for the oldest to expire")
        self._open[token] = (tenant, pair, expires)
        return token

    def find(self, tenant: str, token: str, now: int) -> Slot:
        """Return the private key of `token`."""
        self._expire(now)
        found = self._open.get(token)
        if found is None or found[0] != tenant:
            raise Malformed("the import token is not known, used or expired", "ask for import parameters again")
        return found[1].private

    def forget(self, token: str) -> None:
        """Let go of a token that was used: a second use finds nothing."""
        self._open.pop(token, None)

    def _expire(self, now: int) -> None:
        for old in [t for t, (_, _, expires) in self._open.items() if expires <= now]:
            del self._open[old]

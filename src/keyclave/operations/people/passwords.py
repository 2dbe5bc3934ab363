"""Passwords at work: hashed by two threads of their own, so that a flood of them holds up neither the loop nor whoever uses keys.

A hash is sealed with the tenant's operational key on its way to the store: who steals the database cannot even try passwords.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from keyclave.core.errors import LimitReached
from keyclave.crypto import passwords

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule

_THREADS = 2
_WAITING = 32  # at 30 ms each: half a second; more wait for nothing


class PasswordRoom:
    """Makes and checks hashes. `on_loop` runs a function on the event loop's thread, from any other."""

    def __init__(self, module: CryptoModule) -> None:
        self._module = module
        self._waiting = 0  # of the loop's thread alone
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="keyclave-password")
        self._decoy = passwords.decoy(module.random(passwords.SALT))

    def hash(self, password: str) -> bytes:
        """Return the hash of a new password, on whichever thread asks."""
        return passwords.hash_password(password, self._module.random(passwords.SALT))

    def verify(
        self, password: str, kept: bytes | None, on_loop: Callable[..., object], done: Callable[[bool, Exception | None], None]
    ) -> None:
        """Tell `done`, on the loop, whether a password is the one of the hash, or what went wrong. Called on the loop.

        With None (nobody of that name) the same work is done for nothing.
        """
        if self._waiting >= _WAITING:
            raise LimitReached("too many log in with passwords at once", "try again in a moment, or use a passkey")
        self._waiting += 1

        def work() -> None:
            try:
                right = passwords.verify_password(password, self._decoy if kept is None else kept) and kept is not None
                on_loop(end, right, None)
            except Exception as fault:
                on_loop(end, False, fault)

        def end(right: bool, fault: Exception | None) -> None:
            self._waiting -= 1
            done(right, fault)

        self._threads.submit(work)

"""Passwords at work: hashed off the loop by few at a time, so that a flood of them cannot hold up anybody who uses keys.

A hash is sealed with the tenant's operational key on its way to the store: who steals the database cannot even try passwords.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from keyclave.core.errors import LimitReached
from keyclave.crypto import passwords

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule

T = TypeVar("T")

_WAITING = 32  # more than these wait for nothing


class PasswordRoom:
    """Makes and checks hashes, two at a time."""

    def __init__(self, module: CryptoModule) -> None:
        self._module = module
        self._room = threading.BoundedSemaphore(2)
        self._waiting = 0
        self._lock = threading.Lock()
        self._decoy = passwords.decoy(module.random(passwords.SALT))

    def hash(self, password: str) -> bytes:
        """Return the hash of a new password."""
        return self._one_of_few(lambda: passwords.hash_password(password, self._module.random(passwords.SALT)))

    def verify(self, password: str, kept: bytes | None) -> bool:
        """Tell whether a password is the one of the hash; with None (nobody of that name) the same work is done for nothing."""
        right = self._one_of_few(lambda: passwords.verify_password(password, self._decoy if kept is None else kept))
        return right and kept is not None

    def _one_of_few(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._waiting >= _WAITING:
                raise LimitReached("too many log in with passwords at once", "try again in a moment, or use a passkey")
            self._waiting += 1
        try:
            with self._room:
                return work()
        finally:
            with self._lock:
                self._waiting -= 1

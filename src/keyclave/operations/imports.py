"""Imports under way: the one-time keys to which key material is wrapped on its way in.

The private half waits in the store, sealed under its tenant's key, so that the import may come to another node than the one that
offered it. It goes with the first try, whether that succeeds or not: nobody learns by trying what opens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.errors import KeyclaveError, LimitReached, Malformed
from keyclave.crypto.arena import Slot
from keyclave.crypto.digest import sha256
from keyclave.operations.attempt import Attempt
from keyclave.store.moments import Moment, count_waiting, find_moment, keep_moment, take_moment

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "import"
_WAITING = 16  # imports of a tenant under way at once


def check_room(conn: Connection, tenant: str, now: int) -> None:
    """Refuse where a tenant has too many imports under way."""
    if count_waiting(conn, KIND, now, tenant) >= _WAITING:
        raise LimitReached("too many imports are under way", "finish one, or wait an hour for the oldest to expire")


def offer(desk: Desk, tenant: str, token: str, private: Slot, now: int, expires: int) -> Callable[[Connection], None]:
    """Return what keeps a private key for one import until `expires`, inside a transaction."""
    name = sha256(token.encode())
    sealed = desk.module.seal(desk.keyring.tenant_key(tenant, "operational"), private, _context(tenant, name))
    moment = Moment(kind=KIND, name=name, owner=tenant, held=sealed, made_at=now, expires_at=expires)

    def keep(transaction: Connection) -> None:
        check_room(transaction, tenant, now)
        keep_moment(transaction, moment)

    return keep


def find(desk: Desk, tenant: str, token: str, now: int) -> Moment:
    """Return what waits for `token`."""
    found = desk.store.read(lambda conn: find_moment(conn, KIND, sha256(token.encode()), now))
    if found is None or found.owner != tenant:
        raise gone()
    return found


def open_private(desk: Desk, offered: Moment) -> Slot:
    """Return the private key that waits."""
    key = desk.keyring.tenant_key(offered.owner, "operational")
    return desk.module.open_slot(key, offered.held, _context(offered.owner, offered.name))


def use_up(transaction: Connection, offered: Moment) -> None:
    """Let go of what was used: a second use finds nothing, at whichever node."""
    if not take_moment(transaction, offered):
        raise gone()


def failed(attempt: Attempt, offered: Moment, error: KeyclaveError) -> Callable[[Connection], None]:
    """Return the change that uses it up and refuses: set, not raised, or the use would be undone with the refusal."""

    def change(transaction: Connection) -> None:
        use_up(transaction, offered)
        attempt.error = error

    return change


def gone() -> Malformed:
    """Return the one answer for a token of somebody else, used, over, or never made."""
    return Malformed("the import token is not known, used or expired", "ask for import parameters again")


def _context(tenant: str, name: bytes) -> bytes:
    return canonical("keyclave/import/1", tenant, name)

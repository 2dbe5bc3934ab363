"""A change is made once for its idempotency key: its answer is kept, sealed, in the same transaction, and given again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Conflict, IdempotencyReuse, KeyclaveError, Malformed
from keyclave.crypto.digest import sha256
from keyclave.operations import apart
from keyclave.operations.answers import encode_answer
from keyclave.operations.invalidation import rests_on
from keyclave.store import once_rows
from keyclave.store.stale import read_reach

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk


class DryRun(KeyclaveError):
    """Raised inside a change that was only to be tried: its savepoint is rolled back."""

    code = "dry_run"

    def __init__(self) -> None:
        super().__init__("rehearsed, not done")


def make_change(desk: Desk, attempt: Attempt, transaction: Connection) -> None:
    """Inside the transaction: make the change, or find that it was made before; keep its answer under the idempotency key."""
    assert attempt.change_fn is not None  # noqa: S101
    if desk.membership is not None and attempt.row is not None:
        changed = desk.membership.changed_since(transaction, attempt.judged_at)
        if changed and rests_on(attempt, changed):
            raise Conflict("another node has just changed something that this rests on", "repeat the request")
    kept = _kept(desk, attempt, transaction)
    if kept is not None:
        _give_again(attempt, kept, _reach(desk, transaction))
        return
    for spend in attempt.spends:
        spend(transaction)
    answer = attempt.change_fn(transaction)
    if not attempt.spared or not {*attempt.touches, *attempt.drops} <= {*attempt.spared}:
        attempt.reach = _reach(desk, transaction)
    if attempt.kept_as and answer is not None and attempt.error is None:
        apart.keep(attempt, transaction)
    if hasattr(answer, "event"):
        answer.event = attempt.event
    attempt.answer = answer
    if attempt.dry_run:
        raise DryRun
    if attempt.idempotency is not None and attempt.error is None and not desk.vault.sealed:
        _keep(desk, attempt, answer, transaction)


def replay(desk: Desk, attempt: Attempt) -> bool:
    """Answer from what is kept under the idempotency key, if anything is."""
    if attempt.idempotency is None:
        return False
    kept, reach = desk.store.read(lambda conn: (_kept(desk, attempt, conn), _reach(desk, conn)))
    if kept is None:
        return False
    _give_again(attempt, kept, reach)
    return True


def _give_again(attempt: Attempt, kept: bytes, reach: float) -> None:
    """Answer with what was kept; whoever sends a change again waits for as long as the first did."""
    attempt.answer, attempt.replayed, attempt.detail, attempt.reach = kept, True, {"replayed": 1}, reach


def _reach(desk: Desk, conn: Connection) -> float:
    """Return for how many seconds after their leases other nodes may decrypt by what was before a change made now."""
    return 0.0 if desk.membership is None else read_reach(conn) / MICROSECONDS


def _keep(desk: Desk, attempt: Attempt, answer: Any, transaction: Connection) -> None:
    assert attempt.idempotency is not None  # noqa: S101
    key, digest = attempt.idempotency
    sealer = desk.module.message_sealer(_operational(desk, attempt), _context(attempt, key))
    iv = desk.module.random(12)
    sealed = sealer.commitment + iv + sealer.seal(iv, encode_answer(answer), b"")
    once_rows.keep_idempotent(transaction, attempt.caller.tenant, attempt.caller.principal, key, digest, sealed, attempt.at)


def _kept(desk: Desk, attempt: Attempt, conn: Connection) -> bytes | None:
    if attempt.idempotency is None or desk.vault.sealed:  # sealed, only revocations change anything: harmless twice
        return None
    key, digest = attempt.idempotency
    row = once_rows.read_idempotent(conn, attempt.caller.tenant, attempt.caller.principal, key)
    if row is None:
        return None
    if row[0] != digest:
        raise IdempotencyReuse("this idempotency key was used with another request", "use a new key for a new request")
    kept = row[1]
    return desk.module.open_message(_operational(desk, attempt), _context(attempt, key), kept[:32], kept[32:44], kept[44:], b"")


def _operational(desk: Desk, attempt: Attempt) -> Any:
    return desk.keyring.tenant_key(attempt.caller.tenant, "operational")


def _context(attempt: Attempt, key: str) -> bytes:
    return canonical("keyclave/idempotent-answer/1", attempt.caller.tenant, attempt.caller.principal, key)


def request_digest(operation: str, ref: str, body: bytes, if_match: int | None = None) -> bytes:
    """Return what an idempotency key is bound to; what was kept before If-Match counted is found as it was."""
    if not operation:
        raise Malformed("no operation")
    if if_match is None:
        return sha256(canonical("keyclave/idempotency/1", operation, ref, body))
    return sha256(canonical("keyclave/idempotency/2", operation, ref, body, if_match))

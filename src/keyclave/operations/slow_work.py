"""Slow work (RSA, key generation, long reads) is done on worker threads in turn (`turns`), then asked about again on the loop.

Meanwhile the credential may have been revoked, the policy changed, the server sealed, the key suspended. A change is held to the
key's revision by the store; a use of something that has changed is done over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keyclave.core.errors import Broken, KeyclaveError, Sealed

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk
    from keyclave.operations.keyring import LoadedKey
    from keyclave.operations.operation import Operation


def work(desk: Desk, op: Operation, attempt: Attempt, key: LoadedKey | None, request: Any) -> Iterator[None]:
    """On worker threads, portion by portion: do what would hold up the loop."""
    try:
        if op.portions is None:
            desk.act(op, attempt, key, request)
        else:
            yield from _in_portions(desk, op, attempt, key, request)
    except KeyclaveError as error:
        attempt.error = error
    except Exception as fault:
        attempt.error = Broken("the operation failed", "see the server's log")
        desk.on_loop(desk.log.complain, fault)
    desk.on_loop(_worked, desk, op, attempt, key)


def _in_portions(desk: Desk, op: Operation, attempt: Attempt, key: LoadedKey | None, request: Any) -> Iterator[None]:
    """Do a batch item by item, for as long as it is of use: not once the server was sealed or its caller has changed."""
    assert op.portions is not None  # noqa: S101
    closed, portions = desk.closed, op.portions(desk, attempt, key, request)
    while attempt.caller.live:  # one who is not is looked up again afterwards: nobody, or it is done over
        if desk.vault.sealed or desk.closed != closed:
            raise Sealed
        try:
            next(portions)
        except StopIteration as over:
            desk.finish(op, attempt, key, over.value)
            return
        yield


def _worked(desk: Desk, op: Operation, attempt: Attempt, key: LoadedKey | None) -> None:
    """Back on the loop: hand it to the store, unless it has to be done over."""
    met = desk.met
    try:
        ref = _what_changed(desk, op, attempt, key)
    except KeyclaveError as error:
        attempt.answer, attempt.error = None, error
        attempt.change_fn, attempt.changes = None, False
    else:
        if ref is not None:
            desk.do_again(op, attempt, ref)
            return
        if desk.met != met:  # a commit on the way met what others had changed: ask again
            _worked(desk, op, attempt, key)
            return
    desk.enqueue(attempt)


def _what_changed(desk: Desk, op: Operation, attempt: Attempt, key: LoadedKey | None) -> str | None:
    """Ask again for the caller, the root and the key; return what a use is to be done over on, or None where all is as it was."""
    caller, done = attempt.caller, attempt.error is None
    if desk.membership is not None:
        desk.membership.check()
        if attempt.judged_at != desk.membership.change and not op.changes and done:
            return attempt.ref
    desk.check_live(attempt)
    if desk.clock.now() >= attempt.caller.expires_at:  # a right that ended by the clock meanwhile has ended
        attempt.caller = desk.callers.again(attempt.caller, attempt.peer)
    if op.needs_root and desk.vault.sealed:
        raise Sealed
    changed = attempt.caller is not caller or desk.access.revisions.of(caller.tenant) is not attempt.revision
    if changed and done:
        if not op.changes:
            return attempt.ref
        attempt.spends = ()
        desk.admit(op, attempt, attempt.ref)  # the change itself is held to the key's revision by the store
    if done and any(_differs(desk, attempt, used) for used in _used(op, attempt, key)):
        return attempt.ref
    return None


def _used(op: Operation, attempt: Attempt, key: LoadedKey | None) -> list[LoadedKey]:
    """Return the keys that were used, not changed: by the attempt itself, or by what was approved and is done within it."""
    own = [] if op.changes else [key]
    return [each for each in (*own, *(inner.key for inner in attempt.inner if not inner.changes)) if each is not None]


def _differs(desk: Desk, attempt: Attempt, used: LoadedKey) -> bool:
    return desk.find(attempt.caller.tenant, used.key.id).key.rev != used.key.rev

"""What a change makes void in memory: here after our own commit, and wherever another process or node was the faster one.

Whatever rests on something that another one has changed is not kept: it begins again from its beginning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from keyclave.core.errors import Sealed
from keyclave.operations.limits import release
from keyclave.operations.nodes.follower import EVERYTHING, Question
from keyclave.operations.revisions import POLICY
from keyclave.operations.sealing_reasons import Why
from keyclave.store.interface import Names

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk

logger = logging.getLogger("keyclave.operations")

TENANT_KEYS = "tenant-keys:"
"""What an attempt touches that makes a tenant; no principal or key is called so."""
SEAL = "seal:"
"""What sealing touches: every other process and node lets go of its keys, and whatever rests on one is begun again."""


def settled(desk: Desk, attempt: Attempt, *, failed: bool) -> None:
    """The attempt's group is decided: drop from memory what it changed, before anybody is answered."""
    if desk.messages:  # those who waited for this commit have their answers now: no later request takes part in their messages
        desk.messages.clear()
    if desk.new_keys:
        _leave_out(desk, attempt)
    if attempt.meter is not None or attempt.meters:
        release(attempt)
    if attempt.after is not None and not failed and attempt.error is None and not attempt.dry_run and not attempt.replayed:
        attempt.after()
    if failed and POLICY in attempt.touches:  # perhaps it is kept all the same
        desk.access.revisions.forget(attempt.caller.tenant)
    if attempt.changes:
        awaited = attempt.awaited
        desk.pending.remove(awaited)
        for name in attempt.touches:  # also that a key was looked for in vain
            desk.keyring.forget(attempt.caller.tenant, name)
        for name in (*awaited, *attempt.drops):
            desk.callers.forget(attempt.caller.tenant, name)
    if attempt.reservations and (failed or (attempt.changes and attempt.error is not None)):
        for key_id, _ in attempt.reservations:
            desk.keyring.forget(attempt.caller.tenant, key_id)
    elif attempt.reservations and attempt.reserved:
        for (key_id, number), total in zip(attempt.reservations, attempt.reserved, strict=True):
            desk.keyring.count_others(attempt.caller.tenant, key_id, number, total)


def _leave_out(desk: Desk, attempt: Attempt) -> None:
    """A key that an attempt has not made by now, as when it was refused before, is never made."""
    for each in (attempt, *attempt.inner):
        desk.new_keys.pop(each, None)


def apply_changes(desk: Desk, names: Names) -> None:
    """Drop from memory what another process has changed, before anything that rests on it is kept."""
    desk.met += 1
    for tenant, name in names:
        if name == POLICY:
            desk.access.revisions.forget(tenant)
        elif name == SEAL:
            desk.let_go(Why.SEALED)
        elif name == TENANT_KEYS and not desk.vault.sealed:
            desk.keyring.unseal(desk.vault.root)
        desk.keyring.forget(tenant, name)
        desk.callers.forget(tenant, name)


def follow(desk: Desk, question: Question, applied: Callable[[], None]) -> None:
    """Among other nodes: drop what they changed, and call `applied` when no answer under way rests on it any more."""
    assert desk.membership is not None  # noqa: S101
    if EVERYTHING in question.names:
        logger.error("this node has missed changes of the others: it forgets all it knew, and is sealed")
        desk.let_go(Why.BEHIND)
    if EVERYTHING in question.names or not desk.membership.joined:  # what start-up read may be older than the first question
        _forget_all(desk)
    elif question.names:
        apply_changes(desk, question.names)
    desk.membership.applied(question, applied)


def _forget_all(desk: Desk) -> None:
    """Know nothing but what the store says when it is asked again."""
    desk.keyring.forget_all()
    desk.callers.forget_all()
    desk.access.revisions.forget_all()
    if not desk.vault.sealed:
        desk.keyring.unseal(desk.vault.root)


def take_back(desk: Desk, attempt: Attempt, names: Names) -> bool:
    """Take an attempt back that rests on anything in `names`, to be done over; tell whether it does."""
    if not rests_on(attempt, names):
        return False
    if attempt.changes:
        desk.pending.remove(attempt.awaited)
    return True


def rests_on(attempt: Attempt, names: Names) -> bool:
    """Tell whether anything in `names` went into what the attempt was judged by, or does."""
    caller = attempt.caller
    base = {POLICY, caller.id, caller.principal, *attempt.touches}
    for each in (attempt, *attempt.inner):  # what is done within it may use keys of its own, and further ones
        base.update((each.key_id, each.ref), each.others or ())
    everywhere = {SEAL, TENANT_KEYS} if isinstance(attempt.error, Sealed) else {SEAL}  # a new tenant's keys are here by now
    return any(name in everywhere or (tenant == caller.tenant and name in base) for tenant, name in names)

"""Decrypting while the database is away, with keys that allow it: from memory alone, and recorded in the spool first.

    admit (nothing is looked up) -> decrypt -> spool: written and synced -> does it all still hold? -> answer

What does not fit is refused with nothing told and nothing recorded, as everything is while the database is away. Why a revocation
can still be relied on: spec/nodes.md, "While the database is away".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from keyclave.core.errors import KeyclaveError, Unavailable
from keyclave.crypto.suites import Purpose
from keyclave.operations.invalidation import settled
from keyclave.operations.nodes.contact import Contact
from keyclave.operations.nodes.membership import Membership, behind
from keyclave.operations.revisions import POLICY
from keyclave.store.interface import Leaves
from keyclave.store.memory_only import memory_only

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk
    from keyclave.operations.keyring import LoadedKey
    from keyclave.operations.operation import Operation

logger = logging.getLogger("keyclave.nodes")


class Recorder(Protocol):
    """What makes an event durable meanwhile."""

    def enqueue(self, unit: Use) -> None:
        """On the loop: record a use, and tell it there."""
        ...


class StaleUses:
    """What a node may still do, on the loop's thread."""

    def __init__(
        self, desk: Desk, membership: Membership, contact: Contact, recorder: Recorder, gone: Callable[[], bool], seconds: float
    ) -> None:
        """`gone` tells whether the store knows that the database does not answer; `seconds`: for how long after its lease."""
        self.desk, self.membership = desk, membership
        self._contact, self._recorder, self._gone, self.seconds = contact, recorder, gone, seconds

    def open(self) -> bool:
        """Tell whether the database is away, and not for too long."""
        lease = self.membership.lease
        if lease.live:
            return self._gone()
        return self._contact.away and lease.over_for_less_than(self.seconds)

    def perform(self, op: Operation, attempt: Attempt, ref: str, request: Any) -> None:
        """Decrypt with what is in memory, have it recorded, and answer; or refuse."""
        try:
            with memory_only():
                key = self._admit(op, attempt, ref)
                self._decrypt(op, attempt, key, request)
        except KeyclaveError as refusal:
            self._refuse(attempt, refusal)
        except Exception as fault:
            self.desk.log.complain(fault)
            self._refuse(attempt, Unavailable("the operation failed", "see the server's log"))
        else:
            attempt.settle()
            attempt.stale = max(1, int(self.membership.lease.age * 1000))
            self._recorder.enqueue(Use(self, attempt, key, self.membership.begun()))

    def _admit(self, op: Operation, attempt: Attempt, ref: str) -> LoadedKey:
        """Judge the attempt as ever, by what is in memory."""
        desk, caller = self.desk, attempt.caller
        if self.membership.fault or desk.draining or desk.vault.sealed:
            raise _away()
        key = desk.keyring.held(caller.tenant, ref)
        revision = attempt.revision = desk.access.revisions.held(caller.tenant)
        if key is None or revision is None or not self._allows(key) or not caller.live or caller.expires_at <= attempt.at:
            raise _away()
        if desk.pending.any((caller.id, caller.principal, POLICY, key.key.id)):
            raise _away()
        if op.batch:
            attempt.size = len(attempt.request.items)
        if revision.principal_rate is not None:
            desk.meters.admit_caller(attempt, revision.principal_rate)
        desk.judge(op, attempt, ref)
        if attempt.approval or (attempt.decision is not None and attempt.decision.approval is not None):
            raise _away()
        if revision.key_rate is not None:
            desk.meters.admit_key(attempt, revision.key_rate, key.key.id)
        if revision.tenant_rate is not None:
            desk.meters.admit_tenant(attempt, revision.tenant_rate)
        return key

    def _allows(self, key: LoadedKey) -> bool:
        """Tell whether the key is for stale use, and was known before the last question: see spec/nodes.md, "Why it holds"."""
        return key.key.stale_ok and key.purpose is Purpose.ENCRYPT and key.loaded_at < self.membership.lease.asked

    def _decrypt(self, op: Operation, attempt: Attempt, key: LoadedKey, request: Any) -> None:
        try:
            attempt.answer = op.run(self.desk, attempt, key, request)
        except Unavailable:
            raise
        except KeyclaveError as error:  # what does not open is recorded as ever: somebody may be trying
            attempt.error = error
        if attempt.item is not None:  # a counted grant is used up in the database, or not used
            raise _away()

    def holds(self, use: Use) -> bool:
        """Tell whether what a use was judged by is still so."""
        desk, attempt = self.desk, use.attempt
        caller = attempt.caller
        return (
            self.membership.lease.over_for_less_than(self.seconds)
            and not self.membership.fault
            and not desk.vault.sealed
            and caller.live
            and desk.clock.now() < caller.expires_at
            and desk.keyring.held(caller.tenant, use.key.key.id) is use.key
            and desk.access.revisions.held(caller.tenant) is attempt.revision
            and not desk.pending.any((caller.id, caller.principal, POLICY, use.key.key.id))
        )

    def _refuse(self, attempt: Attempt, refusal: KeyclaveError) -> None:
        """Answer that the database is away, whatever else is wrong: more would be told without a record."""
        logger.debug("not decrypted while the database is away: %s", refusal.detail)
        settled(self.desk, attempt, failed=True)
        attempt.answer, attempt.error, attempt.event = None, _away(), ""
        attempt.reply(attempt)


class Use:
    """One decryption that waits for the spool."""

    __slots__ = ("_epoch", "_stale", "attempt", "key")

    def __init__(self, stale: StaleUses, attempt: Attempt, key: LoadedKey, epoch: int) -> None:
        self._stale = stale
        self.attempt = attempt
        self.key = key
        self._epoch = epoch

    def spooled(self, journal: str, first: int) -> Leaves:
        """Return its events, numbered from `first` in the spool's journal."""
        return self.attempt.spooled(journal, first)

    def done(self, failure: KeyclaveError | None) -> None:
        """On the loop: answer what is recorded, if it all still holds."""
        stale, attempt = self._stale, self.attempt
        try:
            settled(stale.desk, attempt, failed=failure is not None)
            if failure is not None:
                attempt.answer, attempt.error, attempt.event = None, failure, ""
            elif not stale.holds(self):
                attempt.answer, attempt.error = None, behind()
            attempt.reply(attempt)
        finally:
            stale.membership.ended(self._epoch)


def _away() -> Unavailable:
    return Unavailable("the database does not answer: nothing was done", "repeat the request in a moment")

"""The desk: what every verb shares. It knows the implementations only by their interfaces; `app` hands them over.

    perform -> [verb: policy, state, crypto] -> attempt -> store's group -> durable -> reply

`perform` runs on the event loop's thread and never waits: the answer comes through `reply`, once its event is durable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import msgspec
from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS, Clock
from keyclave.core.errors import Broken, Conflict, IdempotencyReuse, KeyclaveError, Malformed, Sealed, Unknown
from keyclave.crypto.arena import Slot
from keyclave.crypto.digest import sha256
from keyclave.crypto.module import CryptoModule
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer, Plane
from keyclave.keys.model import Stale
from keyclave.operations import apart
from keyclave.operations.access import Access
from keyclave.operations.approvals.execute import execute, prepare
from keyclave.operations.approvals.hold import hold
from keyclave.operations.approvals.room import Approvals
from keyclave.operations.attempt import Attempt, DryRun, Reply
from keyclave.operations.callers import Callers
from keyclave.operations.contexts import Contexts
from keyclave.operations.grants.spend import spend_grants
from keyclave.operations.keyring import BLOCK, Keyring, LoadedKey
from keyclave.operations.limits import Meters, release
from keyclave.operations.log import Log
from keyclave.operations.nodes.follower import EVERYTHING, Question
from keyclave.operations.nodes.handing_rules import HandingOn
from keyclave.operations.nodes.membership import Membership, behind
from keyclave.operations.operation import Operation
from keyclave.operations.people.room import People
from keyclave.operations.revisions import POLICY, Revisions
from keyclave.operations.siblings import Alone, Siblings
from keyclave.operations.vault import Vault
from keyclave.operations.workloads.settings import WorkloadSettings
from keyclave.store import records
from keyclave.store.interface import Names, Store
from keyclave.store.stale import read_reach

logger = logging.getLogger("keyclave.operations")

TENANT_KEYS = "tenant-keys:"
"""What an attempt touches that makes a tenant; no principal or key is called so."""
SEAL = "seal:"
"""What sealing touches: every other process and node lets go of its keys, and whatever rests on one is begun again."""
encode_answer = msgspec.json.Encoder().encode


class Desk:
    """Everything a verb needs, and the way of every attempt."""

    block = BLOCK

    def __init__(
        self,
        *,
        store: Store,
        module: CryptoModule,
        vault: Vault,
        log: Log,
        clock: Clock,
        keyring: Keyring,
        plain_context: frozenset[str],
        workers: Executor,
        on_loop: Callable[..., object],
        development: bool,
        destruction_days: int,
        revisions: Revisions,
        workloads: WorkloadSettings,
        people: People,
        approvals: Approvals,
    ) -> None:
        self.store = store
        self.module = module
        self.vault = vault
        self.log = log
        self.clock = clock
        self.keyring = keyring
        self.workloads = workloads
        self.callers = Callers(store, clock, workloads)
        self.access = Access(revisions)
        self.contexts = Contexts(module, keyring, plain_context)
        self.people = people
        people.ceremonies.house = self._house_key
        self.approvals = approvals
        self.development = development
        self.destruction_days = destruction_days
        self.workers = workers
        self.on_loop = on_loop
        self.meters = Meters()
        self.siblings: Siblings = Alone(vault)
        self.membership: Membership | None = None  # of a node among others
        self.handing_on = HandingOn("", frozenset())  # to which nodes the root key may be handed on
        self.closed = 0  # how often everything secret was let go of
        self.draining = False  # whether it says that it is not ready
        self._pending: dict[str, int] = {}

    def _house_key(self) -> Slot:
        """Return what seals the ceremonies of people who are not known yet, the same at every node; `Sealed` while it is."""
        if self.vault.sealed:
            raise Sealed
        self.people.home = self.people.home or self.store.read(records.home_tenant)
        return self.keyring.tenant_key(self.people.home, "operational")

    # ---- the way of an attempt ----------------------------------------------------------------------------------------
    def perform(self, op: Operation, attempt: Attempt, ref: str, request: Any) -> None:
        """Run `op` for the attempt's caller on the key `ref` (empty where the operation names none)."""
        attempt.request, attempt.ref, attempt.row = request, ref, op
        try:
            if self.membership is not None:
                self.membership.check()
                attempt.judged_at = self.membership.change
            self._check_live(attempt)
            revision = attempt.revision = self.access.revisions.of(attempt.caller.tenant)
            if op.batch:
                attempt.size = len(request.items)
            if revision.principal_rate is not None and attempt.meter is None:
                self.meters.admit_caller(attempt, revision.principal_rate)
            if attempt.idempotency is not None:
                self.access.check_duty(attempt, op)  # an answer that is kept is for whoever could have asked for it now
                if self.replay(attempt):
                    self.enqueue(attempt)
                    return
            key = self.admit(op, attempt, ref)
            if not attempt.meters:
                if revision.key_rate is not None and op.plane is Plane.DATA and key is not None:
                    self.meters.admit_key(attempt, revision.key_rate, key.key.id)
                if revision.tenant_rate is not None:
                    self.meters.admit_tenant(attempt, revision.tenant_rate)
            if attempt.slow or (op.slow is not None and op.slow(key, request)):
                self.workers.submit(self._work, op, attempt, key, request)
                return
            self._run(op, attempt, key, request)
        except KeyclaveError as error:
            attempt.error = error
        except Exception as fault:
            attempt.error = Broken("the operation failed", "see the server's log")
            self.log.complain(fault)
        self.enqueue(attempt)

    def admit(self, op: Operation, attempt: Attempt, ref: str) -> LoadedKey | None:
        """Ask policy, and hold what is sensitive until others have approved it: no protocol has another way to a verb."""
        key = self.judge(op, attempt, ref)
        if op.run is execute:
            prepare(self, attempt)
        elif attempt.approval or (attempt.decision is not None and attempt.decision.approval is not None):
            hold(self, op, attempt, key)
        return key

    def inner(self, op: Operation, attempt: Attempt, ref: str, request: Any) -> Attempt:
        """Return another act of the same caller, to be judged or done as part of `attempt`; it is answered with it."""
        made = Attempt(self, op.name, attempt.caller, attempt.peer, _unanswered)
        made.at, made.approval, made.purpose, made.reason = attempt.at, attempt.approval, attempt.purpose, attempt.reason
        made.ref, made.request = ref, request
        return made

    def judge(self, op: Operation, attempt: Attempt, ref: str) -> LoadedKey | None:
        """Ask policy: the duty of the role, then the decision on this key."""
        self.access.check_duty(attempt, op)
        if op.needs_root and self.vault.sealed:
            raise Sealed
        # the key is found before it is judged: unknown and forbidden take the same path
        key = None
        if op.on_key:
            try:
                key = self.find(attempt.caller.tenant, ref)
            except Unknown:
                self.access.judge_unknown(attempt, ref)
                raise
        self.access.decide(attempt, op, key)
        if key is not None:
            attempt.key_id = key.key.id
        apart.bind(self, op, attempt)
        return key

    def find(self, tenant: str, ref: str) -> LoadedKey:
        """Return a key, after committing a change of it that waits: an event after `suspend` must not show a use."""
        key = self.keyring.find(tenant, ref)
        if self._pending and key.key.id in self._pending:
            self.store.flush()
            key = self.keyring.find(tenant, ref)
        return key

    def _check_live(self, attempt: Attempt) -> None:
        """Look again at a caller of whom something changed meanwhile, even if the change still waits for its commit.

        One whose credential was revoked is nobody; one whose rights changed goes on with what is left.
        """
        caller = attempt.caller
        if self._pending and (caller.id in self._pending or caller.principal in self._pending or POLICY in self._pending):
            self.store.flush()
        if not caller.live:
            attempt.caller = self.callers.again(caller, attempt.peer)

    def _run(self, op: Operation, attempt: Attempt, key: LoadedKey | None, request: Any) -> None:
        result = op.run(self, attempt, key, request)
        if attempt.item is not None:
            spend_grants(attempt)
        if attempt.spends and not op.changes:  # what is spent on a use is spent with its event, or the use did not happen
            attempt.change_fn, attempt.changes = (lambda _transaction: result), True
        elif op.changes:
            attempt.change_fn = result
            attempt.changes = True
            attempt.touches = attempt.touches or ((attempt.key_id,) if attempt.key_id else ())
            if key is not None and key.key.stale is Stale.NEVER:
                attempt.spared = (key.key.id, key.key.name)
        else:
            attempt.answer = result

    def _work(self, op: Operation, attempt: Attempt, key: LoadedKey | None, request: Any) -> None:
        """Run on a worker thread what would hold up the loop (RSA, key generation, long reads)."""
        try:
            self._run(op, attempt, key, request)
        except KeyclaveError as error:
            attempt.error = error
        except Exception as fault:
            attempt.error = Broken("the operation failed", "see the server's log")
            self.on_loop(self.log.complain, fault)
        self.on_loop(self._worked, op, attempt, key)

    def _worked(self, op: Operation, attempt: Attempt, key: LoadedKey | None) -> None:
        """Back on the loop: the caller, the root and the key are asked again before anything leaves.

        Meanwhile the credential may have been revoked, the policy changed, the server sealed, the key suspended. A change is
        held to the key's revision by the store; a use of a key that has changed is done over.
        """
        try:
            caller = attempt.caller
            if self.membership is not None:
                self.membership.check()
                if attempt.judged_at != self.membership.change and not op.changes and attempt.error is None:
                    self.do_again(op, attempt, attempt.ref)
                    return
            self._check_live(attempt)
            if self.clock.now() >= attempt.caller.expires_at:  # a right that ended by the clock meanwhile has ended
                attempt.caller = self.callers.again(attempt.caller, attempt.peer)
            if op.needs_root and self.vault.sealed:
                raise Sealed
            changed = attempt.caller is not caller or self.access.revisions.of(caller.tenant) is not attempt.revision
            if changed and attempt.error is None:
                if not op.changes:
                    self.do_again(op, attempt, attempt.ref)
                    return
                attempt.spends = ()
                self.admit(op, attempt, attempt.ref)  # the change itself is held to the key's revision by the store
            if key is not None and attempt.error is None and not op.changes:
                now = self.find(attempt.caller.tenant, key.key.id)
                if now.key.rev != key.key.rev:
                    self.do_again(op, attempt, now.key.id)
                    return
        except KeyclaveError as error:
            attempt.answer, attempt.error = None, error
            attempt.change_fn, attempt.changes = None, False
        self.enqueue(attempt)

    def do_again(self, op: Operation, attempt: Attempt, ref: str) -> None:
        """Do a use over, from the beginning: what it was judged by has changed."""
        attempt.begin_again()
        self.perform(op, attempt, ref, attempt.request)

    def apply_changes(self, names: Names) -> None:
        """Drop from memory what another process has changed, before anything that rests on it is kept."""
        for tenant, name in names:
            if name == POLICY:
                self.access.revisions.forget(tenant)
            elif name == SEAL:
                self.let_go()
            elif name == TENANT_KEYS and not self.vault.sealed:
                self.keyring.unseal(self.vault.root)
            self.keyring.forget(tenant, name)
            self.callers.forget(tenant, name)

    def follow(self, question: Question, applied: Callable[[], None]) -> None:
        """Among other nodes: drop what they changed, and call `applied` when no answer under way rests on it any more."""
        assert self.membership is not None  # noqa: S101
        if EVERYTHING in question.names:
            logger.error("this node has missed changes of the others: it forgets all it knew, and is sealed")
            self.let_go()
        if EVERYTHING in question.names or not self.membership.joined:  # what start-up read may be older than the first question
            self._forget_all()
        elif question.names:
            self.apply_changes(question.names)
        self.membership.applied(question, applied)

    def _forget_all(self) -> None:
        """Know nothing but what the store says when it is asked again."""
        self.keyring.forget_all()
        self.callers.forget_all()
        self.access.revisions.forget_all()
        if not self.vault.sealed:
            self.keyring.unseal(self.vault.root)

    def answer_among_others(self, membership: Membership, attempt: Attempt) -> None:
        """Answer a use only while this node's lease holds, and a change when no other node can act on what was before it."""
        op = attempt.row
        try:
            if op is None or attempt.error is not None or attempt.dry_run:
                attempt.reply(attempt)
            elif op.changes:
                membership.hold(lambda: attempt.reply(attempt), attempt.reach)
            else:
                if not membership.lease.live:
                    attempt.answer, attempt.error = None, behind()
                attempt.reply(attempt)
        finally:
            if attempt.epoch >= 0:
                membership.ended(attempt.epoch)

    def take_back(self, attempt: Attempt, names: Names) -> bool:
        """Take an attempt back that rests on anything in `names`, to be done over; tell whether it does."""
        if not self._rests_on(attempt, names):
            return False
        if attempt.changes:
            self._no_longer_pending(attempt)
        return True

    @staticmethod
    def _rests_on(attempt: Attempt, names: Names) -> bool:
        caller = attempt.caller
        rests_on = {POLICY, caller.id, caller.principal, attempt.key_id, attempt.other_key, attempt.ref, *attempt.touches}
        rests_on.update(inner.key_id for inner in attempt.inner)
        everywhere = {SEAL, TENANT_KEYS} if isinstance(attempt.error, Sealed) else {SEAL}  # a new tenant's keys are here by now
        return any(name in everywhere or (tenant == caller.tenant and name in rests_on) for tenant, name in names)

    def enqueue(self, attempt: Attempt) -> None:
        """Hand the attempt to the store; what it is about to change is used by nobody until that is done."""
        attempt.settle()
        if attempt.changes:
            for name in attempt.touches:
                self._pending[name] = self._pending.get(name, 0) + 1
        if self.membership is not None:
            attempt.epoch = self.membership.begun()
        self.store.enqueue(attempt)

    def settled(self, attempt: Attempt, *, failed: bool) -> None:
        """The attempt's group is decided: drop from memory what it changed, before anybody is answered."""
        if attempt.meter is not None or attempt.meters:
            release(attempt)
        if attempt.after is not None and not failed and attempt.error is None and not attempt.dry_run and not attempt.replayed:
            attempt.after()
        if failed and POLICY in attempt.touches:  # perhaps it is kept all the same
            self.access.revisions.forget(attempt.caller.tenant)
        if attempt.changes:
            self._no_longer_pending(attempt)
            for name in attempt.touches:
                self.keyring.forget(attempt.caller.tenant, name)
                self.callers.forget(attempt.caller.tenant, name)
            for name in attempt.drops:
                self.callers.forget(attempt.caller.tenant, name)
        if attempt.reservations and (failed or (attempt.changes and attempt.error is not None)):
            for key_id, _ in attempt.reservations:
                self.keyring.forget(attempt.caller.tenant, key_id)
        elif attempt.reservations and attempt.reserved:
            for (key_id, number), total in zip(attempt.reservations, attempt.reserved, strict=True):
                self.keyring.count_others(attempt.caller.tenant, key_id, number, total)

    def _no_longer_pending(self, attempt: Attempt) -> None:
        for name in attempt.touches:
            self._pending[name] -= 1
            if not self._pending[name]:
                del self._pending[name]

    # ---- changes ------------------------------------------------------------------------------------------------------
    def make_change(self, attempt: Attempt, transaction: Connection) -> None:
        """Inside the transaction: make the change once for its idempotency key, and keep the answer under that key."""
        assert attempt.change_fn is not None  # noqa: S101
        if self.membership is not None and attempt.row is not None:
            changed = self.membership.changed_since(transaction, attempt.judged_at)
            if changed and self._rests_on(attempt, changed):
                raise Conflict("another node has just changed something that this rests on", "repeat the request")
        kept = self._kept(attempt, transaction)
        if kept is not None:
            attempt.answer, attempt.replayed = kept, True
            attempt.detail = {"replayed": 1}
            attempt.reach = self._reach(transaction)
            return
        for spend in attempt.spends:
            spend(transaction)
        answer = attempt.change_fn(transaction)
        if not attempt.spared or not {*attempt.touches, *attempt.drops} <= {*attempt.spared}:
            attempt.reach = self._reach(transaction)
        if attempt.kept_as and answer is not None and attempt.error is None:
            apart.keep(attempt, transaction)
        if hasattr(answer, "event"):
            answer.event = attempt.event
        attempt.answer = answer
        if attempt.dry_run:
            raise DryRun
        if attempt.idempotency is not None and attempt.error is None and not self.vault.sealed:
            key, digest = attempt.idempotency
            sealer = self.module.message_sealer(self._operational(attempt), _idempotency_context(attempt, key))
            iv = self.module.random(12)
            sealed = sealer.commitment + iv + sealer.seal(iv, encode_answer(answer), b"")
            records.keep_idempotent(transaction, attempt.caller.tenant, attempt.caller.principal, key, digest, sealed, attempt.at)

    def replay(self, attempt: Attempt) -> bool:
        """Answer from what is kept under the idempotency key, if anything is."""
        if attempt.idempotency is None:
            return False
        kept, reach = self.store.read(lambda conn: (self._kept(attempt, conn), self._reach(conn)))
        if kept is None:
            return False
        attempt.answer, attempt.replayed, attempt.detail = kept, True, {"replayed": 1}
        attempt.reach = reach  # whoever sends a change again waits for as long as the first did
        return True

    def _reach(self, conn: Connection) -> float:
        """Return for how many seconds after their leases other nodes may decrypt by what was before a change made now."""
        return 0.0 if self.membership is None else read_reach(conn) / MICROSECONDS

    def _kept(self, attempt: Attempt, conn: Connection) -> bytes | None:
        if attempt.idempotency is None or self.vault.sealed:  # sealed, only revocations change anything: harmless twice
            return None
        key, digest = attempt.idempotency
        row = records.read_idempotent(conn, attempt.caller.tenant, attempt.caller.principal, key)
        if row is None:
            return None
        if row[0] != digest:
            raise IdempotencyReuse("this idempotency key was used with another request", "use a new key for a new request")
        kept, context = row[1], _idempotency_context(attempt, key)
        return self.module.open_message(self._operational(attempt), context, kept[:32], kept[32:44], kept[44:], b"")

    def _operational(self, attempt: Attempt) -> Any:
        return self.keyring.tenant_key(attempt.caller.tenant, "operational")

    def begin(self, op: Operation, caller: Caller, peer: Peer, reply: Reply) -> Attempt:
        """Open an attempt."""
        return Attempt(self, op.name, caller, peer, reply)

    def let_go(self) -> None:
        """Wipe everything secret."""
        self.closed += 1
        self.log.let_go()
        self.keyring.seal()
        self.contexts.forget()
        self.vault.seal()


def _unanswered(_attempt: Attempt) -> None:
    """An act within another is answered with it."""


def request_digest(operation: str, ref: str, body: bytes) -> bytes:
    """Return what an idempotency key is bound to."""
    if not operation:
        raise Malformed("no operation")
    return sha256(canonical("keyclave/idempotency/1", operation, ref, body))


def _idempotency_context(attempt: Attempt, key: str) -> bytes:
    return canonical("keyclave/idempotent-answer/1", attempt.caller.tenant, attempt.caller.principal, key)

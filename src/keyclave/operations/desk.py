"""The desk: what every verb shares. It knows the implementations only by their interfaces; `app` hands them over.

    perform -> [verb: policy, state, crypto] -> attempt -> store's group -> durable -> reply

`perform` runs on the event loop's thread and never waits: the answer comes through `reply`, once its event is durable. Around it:
`slow_work` (what would hold up the loop), `once` (a change and its idempotency key), `invalidation` (what a change makes void).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import InitVar, dataclass
from typing import Any

from keyclave.core.clock import Clock
from keyclave.core.errors import Broken, KeyclaveError, Sealed, Unknown
from keyclave.crypto.arena import Slot
from keyclave.crypto.module import CryptoModule
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer, Plane
from keyclave.keys.model import Stale
from keyclave.operations import apart
from keyclave.operations.access import Access
from keyclave.operations.approvals.execute import execute, prepare
from keyclave.operations.approvals.hold import hold
from keyclave.operations.approvals.room import Approvals
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.callers import Callers
from keyclave.operations.contexts import Contexts
from keyclave.operations.grants.spend import spend_grants
from keyclave.operations.keyring import BLOCK, Keyring, LoadedKey
from keyclave.operations.limits import Meters
from keyclave.operations.log import Log
from keyclave.operations.messages import Messages
from keyclave.operations.new_keys import NewKeys
from keyclave.operations.nodes.handing_rules import HandingOn
from keyclave.operations.nodes.membership import Membership
from keyclave.operations.nodes.stale import StaleUses
from keyclave.operations.once import replay
from keyclave.operations.operation import Operation
from keyclave.operations.pending import Pending
from keyclave.operations.people.room import People
from keyclave.operations.repeats import Repeat
from keyclave.operations.revisions import POLICY, Revisions
from keyclave.operations.sealing_reasons import Why
from keyclave.operations.siblings import Alone, Siblings
from keyclave.operations.slow_work import work
from keyclave.operations.turns import Line, Turns
from keyclave.operations.vault import Vault
from keyclave.operations.workloads.settings import WorkloadSettings
from keyclave.policy.engine import Compiled
from keyclave.store import tenant_rows
from keyclave.store.interface import Store


@dataclass(kw_only=True, eq=False, repr=False)
class Desk:
    """Everything a verb needs, and the way of every attempt."""

    block = BLOCK

    store: Store
    module: CryptoModule
    vault: Vault
    log: Log
    clock: Clock
    keyring: Keyring
    plain_context: InitVar[frozenset[str]]
    workers: Executor
    on_loop: Callable[..., object]
    development: bool
    destruction_days: int
    revisions: InitVar[Revisions]
    workloads: WorkloadSettings
    people: People
    approvals: Approvals
    membership: Membership | None = None  # of a node among others
    closed: int = 0  # how often everything secret was let go of
    why_sealed: Why = Why.STARTED  # if it is
    draining: bool = False  # whether it says that it is not ready

    def __post_init__(self, plain_context: frozenset[str], revisions: Revisions) -> None:
        self.callers = Callers(self.store, self.clock, self.workloads)
        self.access = Access(revisions)
        self.contexts = Contexts(self.module, self.keyring, plain_context)
        self.people.ceremonies.house = self._house_key
        self.meters = Meters()
        self.turns = Turns(self._call_worker)
        self.siblings: Siblings = Alone(self.vault)
        self.stale: StaleUses | None = None  # what it may do while the database is away
        self.handing_on = HandingOn("", frozenset())  # to which nodes the root key may be handed on
        self.pending = Pending()
        self.messages: Messages = {}
        self.new_keys: NewKeys = {}  # that wait to be made
        self.met = 0  # how often something was dropped that another process had changed

    def _call_worker(self, run: Callable[[], None]) -> None:
        self.workers.submit(run)

    def _house_key(self) -> Slot:
        """Return what seals the ceremonies of people who are not known yet, the same at every node; `Sealed` while it is."""
        if self.vault.sealed:
            raise Sealed
        self.people.home = self.people.home or self.store.read(tenant_rows.home_tenant)
        return self.keyring.tenant_key(self.people.home, "operational")

    # ---- the way of an attempt ----------------------------------------------------------------------------------------
    def perform(self, op: Operation, attempt: Attempt, ref: str, request: Any) -> None:
        """Run `op` for the attempt's caller on the key `ref` (empty where the operation names none)."""
        attempt.request, attempt.ref, attempt.row = request, ref, op
        met = self.met
        try:
            if self.membership is not None:
                if op.while_away and self.stale is not None and self.stale.open():
                    self.stale.perform(op, attempt, ref, request)
                    return
                self.membership.check()
                attempt.judged_at = self.membership.change
            self.check_live(attempt)
            revision = attempt.revision = self.access.revisions.of(attempt.caller.tenant)
            if op.batch:
                attempt.size = len(request.items)
            if revision.principal_rate is not None and attempt.meter is None:
                self.meters.admit_caller(attempt, revision.principal_rate)
            if attempt.idempotency is not None:
                self.access.check_duty(attempt, op)  # an answer that is kept is for whoever could have asked for it now
                if replay(self, attempt):
                    self.enqueue(attempt)
                    return
            key = self.admit(op, attempt, ref)
            if revision.uses_limited and not attempt.meters:
                self._admit_within(revision, op, attempt, key)
            if attempt.slow or (op.slow is not None and op.slow(key, request)):
                line = Line(attempt.caller.tenant, attempt.caller.principal, op.method == "GET")
                self.turns.submit(line, work(self, op, attempt, key, request))
                return
            self.act(op, attempt, key, request)
        except KeyclaveError as error:
            attempt.error = error
        except Exception as fault:
            attempt.error = Broken("the operation failed", "see the server's log")
            self.log.complain(fault)
        if self.met != met:  # a commit on the way met what others had changed, and this waited nowhere to be left out of it
            self.do_again(op, attempt, ref)
        else:
            self.enqueue(attempt)

    def use_again(self, repeat: Repeat, attempt: Attempt, key: LoadedKey | None, request: Any) -> None:
        """Run what is like one before it. `repeat` holds, and gave `key`: nothing that the first was judged by has changed."""
        attempt.request, attempt.ref, attempt.row = request, repeat.ref, repeat.op
        try:
            if self.membership is not None:
                self.membership.check()
                attempt.judged_at = self.membership.change
            revision = attempt.revision = repeat.revision
            if repeat.op.batch:
                attempt.size = len(request.items)
            if revision.principal_rate is not None:
                self.meters.admit_caller(attempt, revision.principal_rate)
            repeat.admit(attempt)
            if revision.uses_limited:
                self._admit_within(revision, repeat.op, attempt, key)
            if repeat.op.later is None:
                self.act(repeat.op, attempt, key, request)
            else:  # nothing is spent on a use that comes again
                attempt.later = repeat.op.later(self, attempt, key, request)
        except KeyclaveError as error:
            attempt.error = error
        except Exception as fault:
            attempt.error = Broken("the operation failed", "see the server's log")
            self.log.complain(fault)
        self.enqueue(attempt)

    def _admit_within(self, revision: Compiled, op: Operation, attempt: Attempt, key: LoadedKey | None) -> None:
        """Hold what is permitted to the limits of key and tenant."""
        if revision.key_rate is not None and op.plane is Plane.DATA and key is not None:
            self.meters.admit_key(attempt, revision.key_rate, key.key.id)
        if revision.tenant_rate is not None:
            self.meters.admit_tenant(attempt, revision.tenant_rate)

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
        if self.pending and key.key.id in self.pending:
            self.store.flush()
            key = self.keyring.find(tenant, ref)
        return key

    def check_live(self, attempt: Attempt) -> None:
        """Look again at a caller of whom something changed meanwhile, even if the change still waits for its commit.

        One whose credential was revoked is nobody; one whose rights changed goes on with what is left.
        """
        caller = attempt.caller
        if self.pending and (caller.id in self.pending or caller.principal in self.pending or POLICY in self.pending):
            self.store.flush()
        if not caller.live:
            attempt.caller = self.callers.again(caller, attempt.peer)

    def act(self, op: Operation, attempt: Attempt, key: LoadedKey | None, request: Any) -> None:
        """Do what was admitted."""
        self.finish(op, attempt, key, op.run(self, attempt, key, request))

    def finish(self, op: Operation, attempt: Attempt, key: LoadedKey | None, result: Any) -> None:
        """Take what a verb returned: a use has its answer now, a change is made in its transaction."""
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

    def do_again(self, op: Operation, attempt: Attempt, ref: str) -> None:
        """Do it over, from the beginning: what it was judged by has changed."""
        attempt.begin_again()
        self.perform(op, attempt, ref, attempt.request)

    def enqueue(self, attempt: Attempt) -> None:
        """Hand the attempt to the store; what it is about to change is used by nobody until that is done."""
        if attempt.several or attempt.inner:
            attempt.settle()
        if attempt.changes:
            self.pending.add(attempt.awaited)
        if self.membership is not None:
            attempt.epoch = self.membership.begun()
        self.store.enqueue(attempt)

    def begin(self, op: Operation, caller: Caller, peer: Peer, reply: Reply) -> Attempt:
        """Open an attempt."""
        return Attempt(self, op.name, caller, peer, reply)

    def let_go(self, why: Why | None = None) -> None:
        """Wipe everything secret; `why`, unless it stays what it was: an opening that failed is no reason."""
        self.closed += 1
        self.why_sealed = why or self.why_sealed
        for message in self.messages.values():
            message.end()
        self.messages.clear()
        self.log.let_go()
        self.keyring.seal()
        self.contexts.forget()
        self.vault.seal()


def _unanswered(_attempt: Attempt) -> None:
    """An act within another is answered with it."""

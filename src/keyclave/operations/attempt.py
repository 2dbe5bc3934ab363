"""One attempt of a caller: what becomes one event (rarely several) and one answer, both or neither.

An attempt is a unit of the store. Its answer leaves in `done`, when the group that holds its event is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from keyclave.audit.event_ids import event_id
from keyclave.core.errors import KeyclaveError
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt_events import leaves_of
from keyclave.operations.event_parts import shared_out
from keyclave.operations.invalidation import settled, take_back
from keyclave.operations.once import DryRun, make_change
from keyclave.policy.decision import Alternative, Decision
from keyclave.store import key_rows
from keyclave.store.insertions import Rows
from keyclave.store.interface import Names

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk
    from keyclave.operations.keyring import LoadedKey
    from keyclave.operations.limits import Meter
    from keyclave.operations.operation import Operation
    from keyclave.operations.repeats import Repeat

Reply = Callable[["Attempt"], None]
Change = Callable[[Connection], Any]
Spend = Callable[[Connection], None]
Addition = Callable[[Rows, int], list[bytes]]

_LEFT_BY_A_RUN = (
    "addition", "after", "answer", "change_fn", "changes", "context", "count", "decision", "detail", "drops", "error",
    "event", "events", "failed", "grant", "inner", "item", "later", "others", "parts", "reach", "repeat", "replayed",
    "several", "slow", "spared", "spends", "touches", "used",
)  # fmt: skip
_LEFT_BY_A_TRY = ("answer", "detail", "drops", "error", "failed", "replayed")


class Attempt:
    """What is known of an attempt while it runs. `error` and `answer` are what the caller gets."""

    # what most attempts never set stays on the class: an attempt is made for every request
    addition: Addition | None = None  # the same as `change_fn`, of what only adds rows: they may wait for others
    action = ""  # what policy judges: the operation, or what its request makes of it
    after: Callable[[], None] | None = None  # what follows a change in memory, before it is answered
    answer: Any = None
    approval = ""  # id of the approval that was presented
    by_cookie = False  # whether a page's cookie says who asks
    change_fn: Change | None = None
    changes = False  # whether `change_fn` is to be made
    context: dict[str, list[str]] | None = None
    count = 1
    decision: Decision | None = None
    detail: dict[str, str | int] | None = None
    drafted = b""  # the answer as it is written, if it was written while the disk was busy
    drops: tuple[str, ...] = ()  # like `touches`, but known only inside the transaction
    dry_run = False
    error: KeyclaveError | None = None
    event = ""
    events = 1
    failed = 0
    grant = ""  # id of the grant that permitted it
    idempotency: tuple[str, bytes] | None = None
    if_match: int | None = None
    inner: tuple[Attempt, ...] = ()  # items done in the same transaction, each with its own events after this one's
    later: Callable[[str], bytes] | None = None  # what writes the answer, once the event is kept
    journal = ""  # of the spool that it is recorded in; empty for the node's own
    item: set[str] | None = None  # counted grants that the item at hand uses
    key: LoadedKey | None = None
    kept_as: tuple[str, ...] = ()  # names of the act that is kept for separation of duties; none for what no rule can be over
    key_id = ""
    meter: Meter | None = None  # of its principal, where it counts as unanswered
    meters: tuple[Meter, ...] = ()  # of key and tenant
    others: set[str] | None = None  # further keys that it asked for, found or not: as they were named, and their ids
    outcome = "ok"
    ready: Reply | None = None  # told when the answer is written: for what can be done to it before it may leave
    purpose = ""  # purpose of use, as the caller declared it
    parts: Sequence[dict[str, list[str]]] = ()
    reach = 0.0  # seconds after their leases that other nodes may decrypt by what was before this change
    reason = ""
    ref = ""
    replayed = False
    revision: object = None  # of the policy, by which it was judged
    request: Any = None
    repeat: Repeat | None = None  # what it was admitted by, if that is what one before it was admitted by
    row: Operation | None = None  # what it performs; None for what is only recorded
    reservations: list[tuple[str, int]] | None = None
    reserved: list[int] | None = None  # for each of them, how many uses are accounted for since, by all writers
    size = 1  # items that limits count
    slow = False  # whether its items are worked out on a worker thread
    several = False  # whether more than one value of a name was recorded
    stale = 0  # milliseconds since this node last asked what others changed, if the database is away
    spared: tuple[str, ...] = ()  # names that it may touch without concerning stale use: a key that never allowed it
    spends: tuple[Spend, ...] = ()  # what else is done in the same transaction: approvals and counted grants used up
    touches: tuple[str, ...] = ()
    used: dict[str, int] | None = None  # uses of counted grants, by grant
    version = 0
    epoch = -1  # of the node's membership when it was handed to the store
    judged_at = 0  # the last change of others that was applied when it was judged
    worked_out: dict[str, Any] | None = None  # what an earlier try of the transaction may have changed

    def __init__(self, desk: Desk, op: str, caller: Caller, peer: Peer, reply: Reply) -> None:
        self.desk = desk
        self.op = op
        self.caller = caller
        self.peer = peer
        self.reply = reply
        self.at = desk.clock.now()

    def begin_again(self) -> None:
        """Forget what a first run left, except uses of key versions that are accounted for already."""
        unused = Attempt(self.desk, self.op, self.caller, self.peer, self.reply)
        for name in _LEFT_BY_A_RUN:
            setattr(self, name, getattr(unused, name))

    def note_context(self, context: dict[str, list[str]]) -> None:
        """Record an encryption context, as the log shows it; further ones (of a batch) are added to the first."""
        recorded = self.context
        if recorded is None or recorded is context:
            self.context = context
            return
        for name, (tagged,) in context.items():
            values = recorded.get(name, ())
            if not values or (values[-1] != tagged and tagged not in values[-64:]):
                if not self.several:  # the first one is remembered for others too: it is not ours to add to
                    self.context = recorded = {known: [*tags] for known, tags in recorded.items()}
                    self.several = True
                recorded.setdefault(name, []).append(tagged)

    def rest_on(self, name: str) -> None:
        """Remember a further key: whoever changes or makes it before this is kept has it done over."""
        if self.others is None:
            self.others = set()
        self.others.add(name)

    def use_grant(self, right: Alternative) -> None:
        """Remember which grant permitted it; one whose uses are counted is spent once for each item that succeeds."""
        self.grant = right.grant
        if right.counted:
            if self.item is None:
                self.item = set()
            self.item.add(right.grant)

    def end_item(self, *, failed: bool = False) -> None:
        """An item (of a batch, or the only one) is done: count what it used, unless it failed."""
        if self.item:
            if self.used is None:
                self.used = {}
            for grant in () if failed else self.item:
                self.used[grant] = self.used.get(grant, 0) + 1
            self.item.clear()

    def settle(self) -> None:
        """Say how many events this will be, before it is enqueued."""
        if self.several and self.context is not None:
            self.parts = shared_out(self.context, self.detail)
            self.events = len(self.parts)
        for inner in self.inner:
            inner.settle()
        self.events += sum(inner.events for inner in self.inner)

    # ---- the unit -----------------------------------------------------------------------------------------------------
    @property
    def asks(self) -> bool:
        """Whether the transaction is needed: for a change, or to account for uses."""
        return self.change_fn is not None or self.reservations is not None

    @property
    def awaited(self) -> tuple[str, ...]:
        """What it touches and somebody here may know, so that nobody uses it meanwhile; not what is only being made."""
        return () if self.row is not None and self.row.makes else self.touches

    @property
    def adds(self) -> bool:
        """Whether the change comes to nothing but further rows, which `add` says."""
        return self.addition is not None and self.idempotency is None and not (self.spends or self.dry_run or self.reservations)

    def add(self, rows: Rows, first: int) -> list[bytes]:
        """Make the change by letting its rows wait among others, and return its event."""
        assert self.addition is not None  # noqa: S101
        self._number(first)
        return self.addition(rows, first)

    def change(self, transaction: Connection, first: int) -> list[bytes]:
        """Make the change, if there is one, and return the events. A second try starts from what the verb worked out."""
        if self.change_fn is not None:
            self._begin_try()
        self._number(first)
        self.reserve(transaction)
        if self.change_fn is not None:
            make_change(self.desk, self, transaction)
        return leaves_of(self, first, self.outcome if self.error is None else self.error.code)

    def keep(self, first: int) -> list[bytes]:
        """Return the events of what changes nothing."""
        if self.repeat is None or self.error is not None:
            self._number(first)
            return leaves_of(self, first, self.outcome if self.error is None else self.error.code)
        self.event = event_id(self.desk.store.node, first)
        form = self.repeat.form_of(self)
        return leaves_of(self, first, self.outcome) if form is None else [form.write(self.at, self.event)]

    def _number(self, first: int) -> None:
        self.event = event_id(self.desk.store.node, first)
        if self.inner:
            number = first + self.events - sum(inner.events for inner in self.inner)
            for inner in self.inner:
                inner.event = event_id(self.desk.store.node, number)
                number += inner.events

    def _begin_try(self) -> None:
        """Put back what an earlier try of the transaction left, here and in the items; the first one keeps what is there."""
        if self.worked_out is None:
            self.worked_out = {name: getattr(self, name) for name in _LEFT_BY_A_TRY}
        else:
            for name, value in self.worked_out.items():
                setattr(self, name, value)
        for inner in self.inner:
            inner._begin_try()

    def touched(self) -> Names:
        """Return what a change has made void in every memory; nothing, if it was refused, rehearsed or done before."""
        if self.error is not None or self.replayed or self.dry_run:
            return []
        return [(self.caller.tenant, name) for name in (*self.touches, *self.drops)]

    def void(self, names: Names) -> bool:
        """Take the attempt back if it rests on anything in `names`."""
        return self.row is not None and take_back(self.desk, self, names)

    def again(self) -> None:
        """Do it over, from the beginning."""
        assert self.row is not None  # noqa: S101 - only what has a row was taken back
        self.desk.do_again(self.row, self, self.ref)

    def reserve(self, transaction: Connection) -> None:
        """Account for the uses of key versions that the attempt takes."""
        if self.reservations:
            block = self.desk.block
            self.reserved = [key_rows.reserve_uses(transaction, key_id, number, block) for key_id, number in self.reservations]

    def refused(self, error: Exception, first: int) -> list[bytes]:
        """The change was undone: keep why."""
        self.event = event_id(self.desk.store.node, first)
        if not isinstance(error, KeyclaveError):
            raise error
        if not isinstance(error, DryRun):
            self.error = error
            self.answer = None
        return leaves_of(self, first, error.code)

    def spooled(self, journal: str, first: int) -> list[bytes]:
        """Return the events as they are recorded while the database is away: numbered in the journal of a spool."""
        self.journal = journal
        self.event = event_id(journal, first)
        return leaves_of(self, first, "ok" if self.error is None else self.error.code)

    def draft(self) -> None:
        """Write the answer of a use, or what a verb left for later. Any other, or one for a page's cookie, may still change.

        Those of batches are written one after the other when they leave: all at once they would not fit the processor's caches.
        """
        answer, row = self.answer, self.row
        if self.error is not None or self.by_cookie or row is None or row.batch:
            return
        if self.later is not None:
            self.drafted = self.later(self.event)
        elif self.changes or self.replayed or not hasattr(answer, "event"):
            return
        else:
            answer.event = self.event
            self.drafted = encode_answer(answer)
        if self.ready is not None:
            self.ready(self)

    def done(self, failure: Exception | None) -> None:
        """Answer. On failure nothing happened and no event exists: the answer says so."""
        if failure is not None:
            self.error = failure if isinstance(failure, KeyclaveError) else KeyclaveError("the server failed")
            self.answer = None
            self.event = ""
        elif self.later is not None and not self.drafted and self.error is None:
            try:
                self.drafted = self.later(self.event)
            except Exception as fault:  # its event says that it was done: too much on record is safe
                self.error = fault if isinstance(fault, KeyclaveError) else KeyclaveError("the server failed")
                self.desk.log.complain(fault)
        settled(self.desk, self, failed=failure is not None)
        if self.change_fn is not None:  # it and what was spent know the attempt: together they would wait for the collector
            self.change_fn = self.addition = self.later = None
            self.spends = ()
        if self.error is not None:  # so do the frames that it came through, and those hold what was sent
            self.error.__traceback__ = self.error.__context__ = self.error.__cause__ = None
        if self.desk.membership is None:
            self.reply(self)
        else:
            self.desk.membership.answer(self)

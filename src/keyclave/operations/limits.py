"""Rates and quotas, so that one principal, key or tenant leaves room for the others: `[limits]` of the policy's rules.

A rate is a bucket that fills with time (the generic cell rate algorithm: one number for each, the moment at which it will be
empty again). A quota is how many requests are unanswered at once. A principal's own limits come before policy is asked, for
asking costs; those of a key and a tenant come after, so that nobody uses up what they may not use.

In memory only: a server that starts again begins with whole buckets. Of several nodes each enforces its share, a limit divided by
the number of live nodes: a question of one node to all the others would cost each request more than the limit is worth. So
who comes to one node alone gets that node's share; a node that dies leaves its share to the others as soon as they know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from keyclave.core.errors import LimitReached
from keyclave.policy.rules import Rate

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt

_CAPACITY = 65_536  # meters of one kind
_Name = TypeVar("_Name")


class Meter:
    """What one principal, key or tenant has used of its rate and quota."""

    __slots__ = ("empty_at", "largest", "most", "nodes", "rate", "room", "step", "unanswered")

    def __init__(self, rate: Rate, nodes: int = 1) -> None:
        self.empty_at = 0  # nanoseconds: whole numbers, so that a full bucket holds exactly its burst
        self.unanswered = 0
        self.adopt(rate, nodes)

    def adopt(self, rate: Rate, nodes: int = 1) -> None:
        """Be held, from now on, to one node's share of a rate."""
        self.rate = rate
        self.nodes = nodes
        self.most = max(1, rate.concurrent // nodes) if rate.concurrent else 0
        step = max(1, round(1e9 / rate.per_second)) if rate.per_second else 0
        self.step = step * nodes
        self.largest = rate.burst or max(1, round(rate.per_second))  # items of a batch: what policy lets through at once
        self.room = step * self.largest  # of the slower bucket: the burst, divided by the nodes

    def take(self, number: int, now: int) -> int:
        """Take `number` from the bucket at `now` (microseconds) and return 0; or take nothing, and return for how many
        nanoseconds to wait for them. A batch that is more than this node's share, not more than the burst, is let through when
        the bucket is whole, and leaves a debt."""
        now *= 1000
        empty_at = self.empty_at
        after = (empty_at if empty_at > now else now) + number * self.step
        if after - now > self.room:
            share = min(number * self.step, self.room) if number <= self.largest else number * self.step
            wait = after - now - number * self.step + share - self.room
            if wait > 0:
                return wait
        self.empty_at = after
        return 0

    def idle(self, now: int) -> bool:
        """Tell whether forgetting it changes nothing; whoever still holds it remembers it by themselves."""
        return not self.unanswered and self.empty_at <= now * 1000


class Meters:
    """All of them, by what they measure. `live_nodes` returns among how many nodes a limit is divided, at no cost."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self.live_nodes: Callable[[], int] | None = None  # one, then
        self._capacity = capacity
        self._principals: dict[tuple[str, str], Meter] = {}
        self._keys: dict[str, Meter] = {}
        self._tenants: dict[str, Meter] = {}

    def admit_caller(self, attempt: Attempt, rate: Rate) -> None:
        """Hold an attempt to its principal's limits."""
        caller = attempt.caller
        meter: Meter | None = caller.meter
        if meter is None:
            meter = caller.meter = self._of(self._principals, (caller.tenant, caller.principal), rate, attempt.at)
        nodes = 1 if self.live_nodes is None else self.live_nodes()
        if meter.rate is not rate or meter.nodes != nodes:
            meter.adopt(rate, nodes)
        if meter.step:
            wait = meter.take(attempt.size, attempt.at)
            if wait:
                _too_fast(attempt, meter, "principal", wait)
        if meter.most:
            if meter.unanswered >= meter.most:
                _too_many(meter, "principal")
            meter.unanswered += 1
            attempt.meter = meter

    def admit_key(self, attempt: Attempt, rate: Rate, key: str) -> None:
        """Hold a use that is permitted to the limits of the key."""
        self._admit(attempt, self._keys.get(key) or self._of(self._keys, key, rate, attempt.at), rate, "key")

    def admit_tenant(self, attempt: Attempt, rate: Rate) -> None:
        """Hold an attempt that is permitted to the limits of the tenant."""
        tenant = attempt.caller.tenant
        self._admit(attempt, self._tenants.get(tenant) or self._of(self._tenants, tenant, rate, attempt.at), rate, "tenant")

    def _admit(self, attempt: Attempt, meter: Meter, rate: Rate, whose: str) -> None:
        nodes = 1 if self.live_nodes is None else self.live_nodes()
        if meter.rate is not rate or meter.nodes != nodes:
            meter.adopt(rate, nodes)
        if meter.step:
            wait = meter.take(attempt.size, attempt.at)
            if wait:
                _too_fast(attempt, meter, whose, wait)
        if meter.most:
            if meter.unanswered >= meter.most:
                _too_many(meter, whose)
            meter.unanswered += 1
            attempt.meters = (*attempt.meters, meter)

    def _of(self, table: dict[_Name, Meter], name: _Name, rate: Rate, now: int) -> Meter:
        meter = table.get(name)
        if meter is None:
            if len(table) >= self._capacity:
                for each in [each for each, known in table.items() if known.idle(now)]:
                    del table[each]
            meter = table[name] = Meter(rate, 1 if self.live_nodes is None else self.live_nodes())
        return meter


def _too_fast(attempt: Attempt, meter: Meter, whose: str, wait: int) -> None:
    rate = meter.rate
    if attempt.size > meter.largest:
        raise LimitReached(f"the batch has more items than this {whose} may use at once", "send smaller batches")
    seconds = wait / 1e9
    raise LimitReached(
        f"this {whose} is limited to {rate.per_second:g} uses a second",
        f"wait {seconds:.3g} s; ask whoever keeps the policy for more (`limits` in rules.toml)",
        wait=seconds,
    )


def _too_many(meter: Meter, whose: str) -> None:
    raise LimitReached(f"{meter.most} requests of this {whose} are unanswered", "wait for their answers before sending more")


def release(attempt: Attempt) -> None:
    """The attempt is answered: it no longer counts among the unanswered."""
    meter = attempt.meter
    if meter is not None:
        meter.unanswered -= 1
        attempt.meter = None
    if attempt.meters:
        for each in attempt.meters:
            each.unanswered -= 1
        attempt.meters = ()

"""The drills: what is done to the cluster while it is used, and how it is looked at afterwards.

Each drill: all is well; traffic and revocations begin; something is hurt; whatever a machine's own init would start again is started
again, and nothing else is done by hand; all is well again; everything acknowledged is looked for.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial

from drill.ha.fleet import LEASE_SECONDS, Fleet, Node
from drill.ha.ground import SMALL, Ground
from drill.ha.process import wait_for
from drill.ha.proof import Auditor
from drill.ha.revoking import Revoked, Revoker
from drill.ha.stale import STALE_SECONDS, WARD, Readers, look
from drill.ha.traffic import KEY, Seen, Traffic

_WARM = 40  # answers before the hurt, and after it
_FROZEN = 4.0  # seconds: several leases
_SKEW = 300  # seconds
_OPERATIONS = ["encrypt", "decrypt", "data-key"]


@dataclass
class Row:
    """What a drill came to: the flat record of drill/ha.json, and beside it what people want to know."""

    drill: str
    acknowledged: int = 0
    lost: int = 0
    uses_after_revoke: int = 0
    duplicates: int = 0
    seconds_to_serve: float | None = None  # the longest time in which no application got an answer from any node
    ok: bool = False
    seconds_to_change: float | None = None  # the same for changes
    seconds_to_recover: float | None = None  # until every part, also what was hurt, serves again
    revocations: int = 0
    revoke_worst_ms: float | None = None
    refused: int = 0  # answers "not now", and silences
    notes: list[str] = field(default_factory=list)

    def lose(self, what: str) -> None:
        """Count something lost."""
        self.lost += 1
        self.notes.append(what)


class Range:
    """Where drills are held: a ground, a fleet on it, a key, a credential and an auditor."""

    def __init__(self, ground: Ground, fleet: Fleet) -> None:
        self.ground, self.fleet = ground, fleet
        with fleet.client(fleet.nodes[0], "custodian", 30) as client:
            client.create_key(KEY, owner="drill", environment="test", classification="ePHI")
        with fleet.client(fleet.nodes[0], "operator", 30) as client:
            scope = {"operations": _OPERATIONS, "keys": [KEY]}
            token = client.issue_credential("drill-application", "application", 86_400, scope).token
        assert token is not None
        self.application = token
        self.auditor = Auditor(fleet, ground.folder / "export")
        self.readers: Readers | None = None
        self.said: list[str] = []  # by the drill at hand

    def allow_stale(self) -> None:
        """Give the nodes spools, and have a key that may be used from them."""
        self.fleet.give_spools(STALE_SECONDS)
        with self.fleet.client(self.fleet.nodes[0], "custodian", 30) as client:
            client.create_key(WARD, owner="drill", environment="test", classification="ePHI", stale_ok=True)
        with self.fleet.client(self.fleet.nodes[0], "operator", 30) as client:
            scope = {"operations": ["encrypt", "decrypt"], "keys": [WARD, KEY]}
            token = client.issue_credential("drill-ward", "application", 86_400, scope).token
        assert token is not None
        self.readers = Readers(self.fleet, token)

    def wait_well(self, seconds: float = 120) -> None:
        """Return when the database is whole and every node uses keys."""
        self.ground.wait_healthy(seconds)
        for node in self.fleet.nodes:
            wait_for(f"{node.name} serves", partial(self.fleet.serves, node, self.application, KEY), seconds)

    def wait_revoked(self, count: int) -> None:
        """Return when so many more revocations have returned."""
        wanted = self._revoker.revoked.count + count
        wait_for(f"{count} revocations meanwhile", lambda: self._revoker.revoked.count >= wanted, 60)

    def hold(self, name: str, hurt: Callable[[Range], None]) -> Row:
        """Hold one drill."""
        row = Row(name)
        self.wait_well()
        traffic, revoker = Traffic(self.fleet, self.application), Revoker(self.fleet)
        self._revoker = revoker
        traffic.start()
        revoker.start()
        try:
            self._answers(traffic, _WARM)
            wait_for("a revocation", lambda: revoker.revoked.count > 0)
            began = time.monotonic()
            hurt(self)
            self.fleet.revive()
            self.ground.come_back()
            self.wait_well(180)
            row.seconds_to_recover = round(time.monotonic() - began, 2)
            self._answers(traffic, len(traffic.seen.served) + _WARM)
        finally:
            revoked, seen = revoker.stop(), traffic.stop()
        row.seconds_to_serve = round(seen.longest_gap(seen.served, began), 2)
        row.seconds_to_change = round(seen.longest_gap(seen.changed, began), 2)
        self._look(row, seen, revoked)
        return row

    def _answers(self, traffic: Traffic, count: int) -> None:
        wait_for(f"{count} answers", lambda: len(traffic.seen.served) >= count and traffic.seen.changed, 120)

    def _look(self, row: Row, seen: Seen, revoked: Revoked) -> None:
        events = {**seen.events, **revoked.events, **(self.readers.read.events if self.readers else {})}
        row.acknowledged, row.refused = len(events), seen.refused
        row.uses_after_revoke, row.revocations = revoked.uses_after, revoked.count
        row.revoke_worst_ms = round(1000 * max(revoked.seconds), 1) if revoked.seconds else None
        row.notes += self.said + revoked.notes[:10] + seen.wrong[:10]
        for event in self.auditor.missing(events):
            row.lose(f"{event} ({events[event]}) has no place in the log")
        twice = self.auditor.twice()
        row.duplicates = len(twice)
        row.notes += [f"{one} is there more than once" for one in twice[:10]]
        if self.readers is not None:
            for what in look(self.readers.read, self.auditor.stale):
                row.lose(what)
        for what in [*self.auditor.faults(), *self.auditor.gone(seen, self.application)]:
            row.lose(what)
        row.ok = not (row.lost or row.uses_after_revoke or row.duplicates or seen.wrong) and row.revocations > 0


# ---- what is hurt ---------------------------------------------------------------------------------------------------------------
def _another_primary(where: Range, old: str | None) -> None:
    wait_for("another primary", lambda: where.ground.primary() not in (None, old), 90)


def kill_primary(where: Range) -> None:
    """kill -9 the primary's postmaster."""
    old = where.ground.primary()
    where.ground.members[old or ""].kill_postgres()
    _another_primary(where, old)


def lose_member_and_etcd(where: Range) -> None:
    """Patroni, PostgreSQL and etcd of the primary's machine are gone at one stroke."""
    old = where.ground.primary()
    where.ground.members[old or ""].lose(with_etcd=True)
    _another_primary(where, old)


def switchover(where: Range) -> None:
    """A planned switch, as before maintenance."""
    where.ground.switch_over()


def freeze_node(where: Range) -> None:
    """SIGSTOP a server for several leases, while the others revoke; then let it go on where it was."""
    node = where.fleet.nodes[0]
    node.program.send(signal.SIGSTOP)
    try:
        time.sleep(_FROZEN)  # that long, at least, is the drill
        where.wait_revoked(2)
    finally:
        node.program.send(signal.SIGCONT)


def cut_node(where: Range) -> None:
    """A server's wire to the database swallows everything; the node must stop using keys when its lease is over."""
    node = next(node for node in where.fleet.nodes if node.wire is not None)
    node.cut()
    try:
        time.sleep(3 * LEASE_SECONDS)  # well past its lease
        if where.fleet.serves(node, where.application, KEY):
            raise AssertionError(f"{node.name} uses keys though it has been cut off for {3 * LEASE_SECONDS:g} s")
        where.wait_revoked(2)
    finally:
        node.mend()


def kill_sequencer(where: Range) -> None:
    """kill -9 the server that gives events their places."""
    old = where.fleet.sequencer()
    old.program.kill()
    wait_for("another sequencer", lambda: where.fleet.sequencer() is not old, 30)


def kill_all_nodes(where: Range) -> None:
    """kill -9 every server at once."""
    for node in where.fleet.nodes:
        node.program.send(signal.SIGKILL)
    for node in where.fleet.nodes:
        node.program.kill()


def disk_full(where: Range) -> None:
    """The primary's data disk is full to the last byte, and stays so until another member has taken over."""
    disk = where.ground.disk
    assert disk is not None
    disk.fill()
    try:
        _another_primary(where, SMALL)
    finally:
        disk.free()


def clock_ahead(where: Range) -> None:
    """One server's clock jumps five minutes ahead, and back."""
    _skewed(where, _SKEW)


def clock_behind(where: Range) -> None:
    """One server's clock jumps five minutes back, and ahead."""
    _skewed(where, -_SKEW)


def _skewed(where: Range, seconds: int) -> None:
    node = next(node for node in where.fleet.nodes if node.clock is not None)
    node.move_clock(seconds)
    try:
        time.sleep(_FROZEN)  # that long is the drill
    finally:
        node.move_clock(0)


def read_stale(where: Range) -> None:
    """kill -9 the primary's postmaster, while nodes with spools are read from: with the key that allows it the reading goes on."""
    assert where.readers is not None
    readers, old = where.readers, where.ground.primary()
    readers.start()
    try:
        wait_for("the readers read", lambda: len(readers.read.times) > _WARM, 60)
        time.sleep(LEASE_SECONDS)  # so that every node knows the key since before its newest lease
        began = time.monotonic()
        where.ground.members[old or ""].kill_postgres()
        _another_primary(where, old)
        where.wait_well()
        after = len(readers.read.times)
        wait_for("the readers read", lambda: len(readers.read.times) > after + _WARM, 60)
    finally:
        times = sorted(readers.stop().times)
    gap = max((b - a for a, b in itertools.pairwise(times) if b >= began), default=0.0)
    where.said.append(f"the longest time without an answer to a reader was {gap:.2f} s")


DRILLS: dict[str, Callable[[Range], None]] = {
    "kill_primary": kill_primary,
    "switchover": switchover,
    "lose_member_and_etcd": lose_member_and_etcd,
    "freeze_node": freeze_node,
    "cut_node": cut_node,
    "kill_sequencer": kill_sequencer,
    "kill_all_nodes": kill_all_nodes,
    "clock_ahead": clock_ahead,
    "clock_behind": clock_behind,
    "disk_full": disk_full,
    "read_stale": read_stale,  # the last one: it changes how long changes wait for silent nodes
}


def held(where: Range, name: str) -> Row:
    """Hold a drill by name; one that breaks off is a row too, and the next is held all the same."""
    try:
        if name == "disk_full":
            where.ground.wait_healthy()
            where.ground.switch_over(SMALL)
        if name == "read_stale":
            where.wait_well()
            where.allow_stale()
        return where.hold(name, DRILLS[name])
    except Exception as fault:  # whatever it was, the other drills are still worth holding
        with contextlib.suppress(Exception):
            where.fleet.revive()
            where.ground.come_back()
        return Row(name, lost=1, notes=[f"broken off: {fault!r}"])


def record(row: Row) -> dict[str, object]:
    """Return the flat record without what is only for people."""
    flat = asdict(row)
    del flat["notes"]
    return flat


__all__ = ["DRILLS", "Node", "Range", "Row", "held", "record"]

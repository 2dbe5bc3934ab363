"""A made-up world of nodes around one database: clocks of their own pace, questions and answers that take their time.

Each node is a small program of steps (ask, apply, renew), run one step at a time by whoever plays fate. Between any two steps a node
may be frozen for as long as fate likes, and a look at the others' rows may take long to arrive. Some nodes may go on using keys for
a while after their lease, those keys that allow it (here: the even ones). Nothing here is the server's but `Lease`, `Follower` and
`Barrier`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random

from keyclave.operations.nodes.barrier import Barrier, Standing, Wait
from keyclave.operations.nodes.follower import EVERYTHING, Follower, Question
from keyclave.operations.nodes.lease import PATIENCE, Lease

LEASE = 1.0


@dataclass
class Database:
    """What is committed: the counter with its changes, and the nodes' rows. `moved` numbers renewals."""

    changes: list[list[tuple[str, str]]] = field(default_factory=list)
    rows: dict[str, Standing] = field(default_factory=dict)
    moved: int = 0

    def news(self, after: int) -> tuple[int, list[tuple[int, list[tuple[str, str]]]]]:
        return len(self.changes), [(n, self.changes[n - 1]) for n in range(after + 1, len(self.changes) + 1)]

    def renew(self, node: str, applied: int, stale: float) -> None:
        self.moved += 1
        self.rows[node] = Standing(node, applied, self.moved, left=False, stale=stale)


class Node:
    """One node: what it knows to be revoked, and where it is in its round."""

    def __init__(self, world: World, name: str, pace: float, stale: float) -> None:
        self.world, self.name, self.pace, self.stale = world, name, pace, stale
        self.void: set[str] = set()
        self.lease = Lease(LEASE, self.clock)
        self.follower = Follower(len(world.database.changes), LEASE)
        self.barrier = Barrier(name, LEASE)
        self.question: Question | None = None
        self.applied = self.written = False
        self.under_way: list[str] = []  # keys of uses that were judged, and wait for their commit
        self.seen: tuple[float, list[Standing]] | None = None  # a look whose answer is on its way, and when it began

    def clock(self) -> float:
        return self.world.now * self.pace

    def step(self) -> None:
        """Go on with the round by one step."""
        if self.question is None:
            self.question = self.follower.read(self.clock(), *self.world.database.news(self.follower.applied))
        elif not self.applied:
            assert EVERYTHING not in self.question.names
            self.void |= {name for _, name in self.question.names}
            self.applied = True
            self.answer()  # before the row says so, what was under way is answered
            self.follower.was_applied(self.question)
        elif not self.written:
            self.world.database.renew(self.name, self.follower.applied, self.stale)
            self.written = True
        else:
            self.lease.renewed(self.question.asked)
            self.follower.was_renewed(self.question)
            self.lost_answer()

    def lost_answer(self) -> None:
        """Begin a new round; so it goes, too, when the answer to the renewal never comes."""
        self.question, self.applied, self.written = None, False, False

    def trusts(self, key: str) -> bool:
        return self.lease.live or (allows_stale(key) and self.lease.over_for_less_than(self.stale))

    def begin_use(self, key: str) -> None:
        if self.trusts(key) and key not in self.void:
            self.under_way.append(key)

    def answer(self) -> None:
        """The uses under way are committed: whoever's lease is over says nothing."""
        for key in self.under_way:
            if self.trusts(key):
                self.world.used(self.name, key, stale=not self.lease.live)
        self.under_way.clear()

    def revoke(self, key: str) -> None:
        self.world.database.changes.append([("t", key)])
        self.answer()  # its own units before it are answered before it
        self.void.add(key)
        reach = max((row.stale for row in self.world.database.rows.values()), default=0.0) if allows_stale(key) else 0.0
        self.barrier.waiting.append(Wait(self.clock(), lambda: self.world.returned(key), reach))

    def look(self) -> None:
        """One look of the barrier: the number, then the rows; and, when the answer has come, who may be told."""
        if self.seen is None:
            self.barrier.number(len(self.world.database.changes))
            self.seen = self.clock(), list(self.world.database.rows.values())
            return
        (began, rows), self.seen = self.seen, None
        self.barrier.saw(rows, self.clock())
        for wait in self.barrier.over(began, read=True):
            wait.release()

    def tell(self) -> None:
        for wait in self.barrier.over(self.clock(), read=False):
            wait.release()


class World:
    """Time, one database, some nodes, and the two things that must not happen in the wrong order."""

    def __init__(self, paces: list[float], stales: list[float] | None = None) -> None:
        self.now = 100.0
        self.database = Database()
        stales = stales or [0.0] * len(paces)
        self.nodes = [Node(self, f"n{i}", pace, stale) for i, (pace, stale) in enumerate(zip(paces, stales, strict=True))]
        self.returned_at: dict[str, float] = {}
        self.uses = self.stale_uses = 0
        self.broken: list[str] = []

    def returned(self, key: str) -> None:
        self.returned_at.setdefault(key, self.now)

    def used(self, name: str, key: str, *, stale: bool) -> None:
        self.uses += 1
        self.stale_uses += stale
        if key in self.returned_at:
            self.broken.append(f"{name} used {key} at {self.now}, revoke returned at {self.returned_at[key]}")


def allows_stale(key: str) -> bool:
    """Tell whether a key allows stale use."""
    return key.isdigit() and int(key) % 2 == 0


def live(fate: Random, seconds: float) -> World:
    """Let a world live for so long: nodes freeze between any two of their steps, renewals get lost, the database is cut off."""
    world = World([fate.uniform(0.9, 1.1) for _ in range(3)], [fate.choice([0.0, 0.5, 3.0]) for _ in range(3)])
    turns = [(world.now + fate.random() / 50, number) for number in range(len(world.nodes))]
    key, frozen_for, cut_off = 0, fate.choice([1.0, 1.2, 2.0]), fate.random() < 0.3
    while min(turns)[0] < 100.0 + seconds:
        at, number = heapq.heappop(turns)
        world.now, node = at, world.nodes[number]
        for old in range(max(0, key - 3), key + 1):
            node.begin_use(str(old))
        if fate.random() < 0.15:
            node.revoke(str(key))
            key += 1
        acts = [node.step] * 6 + [node.answer, node.look] + ([node.lost_answer] if fate.random() < 0.1 else [])
        for act in fate.sample(acts, fate.randint(1, 3)):
            act()
        node.tell()
        pause = fate.uniform(0.2, 1) * frozen_for * LEASE if fate.random() < 0.04 else fate.uniform(0.001, 0.05)
        if cut_off and fate.random() < 0.02:
            pause += PATIENCE * LEASE
        heapq.heappush(turns, (at + pause, number))
    return world

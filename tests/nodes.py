"""Two nodes over one home, in this process: each with a desk, a store's connections and a REST application of its own.

They share nothing but the database and the configuration, like two processes do; on PostgreSQL each has the threads of a node, too.
`restart` ends one and starts it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from keyclave.app.ceremony import Wishes
from keyclave.app.cluster import Cluster
from keyclave.app.cluster_threads.ground import Settings
from keyclave.app.config import Config, LogSettings, StoreSection
from keyclave.app.stores import AnyStore
from keyclave.app.wiring import build
from keyclave.identity.peer import Peer
from keyclave.operations.desk import Desk
from keyclave.operations.table import OPERATIONS
from keyclave.operations.unseal import close_house
from keyclave.protocols.rest.asgi import application
from keyclave.protocols.rest.gateway import Gateway
from keyclave.store.postgres import PostgresStore
from tests.homes import home_of
from tests.people.clock import Clock
from tests.visitor import Visitor
from tests.waiting import until

ORIGIN = "keyclave.localhost/log"
PORT = 8443
WISHES = Wishes(1, 1, True, "127.0.0.1", PORT, ORIGIN, (), "tokens")
# The loop runs only while something is asked: the lease has to last from one request to the next, and nothing is signed between.
LEASE_SECONDS, CHECKPOINT_SECONDS = 60.0, 3600.0


@dataclass
class Node:
    """One node. `port` is where its pages would be; `tokens` are those of the ceremony's people, by role."""

    home: Path
    section: StoreSection
    loop: asyncio.AbstractEventLoop
    workers: ThreadPoolExecutor
    tokens: dict[str, str]
    clock: Clock
    port: int = PORT
    desk: Desk = field(init=False)
    store: AnyStore = field(init=False)
    cluster: Cluster | None = field(init=False, default=None)
    http: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.desk, self.store = build(
            Config(log=LogSettings(origin=ORIGIN), development=True, store=self.section),
            self.home,
            workers=self.workers,
            loop=self.loop,
            shared=True,
        )
        desk = self.desk
        desk.clock = desk.callers._clock = desk.people._clock = desk.people.lockout._clock = self.clock  # type: ignore[assignment]
        if isinstance(self.store, PostgresStore):
            self._join(self.store)
        served = application(Gateway(self.desk, OPERATIONS, lambda *_: None), OPERATIONS)

        async def listen(scope: Any, receive: Any, send: Any) -> None:
            address = dict(scope["headers"]).get(b"x-test-address", b"192.0.2.1").decode()
            scope["extensions"] = {"keyclave.peer": Peer(address)}
            await served(scope, receive, send)

        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(listen), base_url=f"https://localhost:{PORT}")

    def _join(self, store: PostgresStore) -> None:
        """Take a place among the nodes, and wait for the lease."""
        settings = Settings(f"localhost:{PORT}", LEASE_SECONDS, 300.0, CHECKPOINT_SECONDS)
        self.cluster = Cluster(store.address, store.node, settings)
        membership = self.desk.membership = self.cluster.membership
        self.cluster.start(self.desk, self.loop.call_later)

        async def wait() -> None:
            while not membership.lease.live:
                await asyncio.sleep(0.005)  # between two looks at a condition

        self.loop.run_until_complete(asyncio.wait_for(wait(), 20))

    def entries(self) -> list[bytes]:
        """Return every event of the log, once all that are durable have their place in it."""
        until(lambda: self.store.placed() >= self.count("journal", "coalesce(sum(count), 0)"), "events have no place")
        return list(self.store.read_entries(0, 1 << 20))

    def count(self, table: str, what: str = "count(*)") -> int:
        """Return how many rows a table has."""
        return int(self.store.read(lambda conn: conn.exec_driver_sql(f"SELECT {what} FROM {table}").scalar_one()))

    async def ask(self, method: str, path: str, token: str | None = None, body: Any = None, address: str = "192.0.2.1") -> Any:
        """Send a request and return its answer, once it is durable."""
        headers = {"x-test-address": address}
        if token:
            headers["authorization"] = "Bearer " + self.tokens.get(token, token)
        content = {} if method == "GET" else {"json": {} if body is None else body}
        return await self.http.request(method, path, headers=headers, **content)

    def post(self, path: str, token: str | None = None, body: Any = None, address: str = "192.0.2.1") -> httpx.Response:
        """POST a JSON body."""
        answer: httpx.Response = self.loop.run_until_complete(self.ask("POST", path, token, body, address))
        return answer

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        """GET."""
        answer: httpx.Response = self.loop.run_until_complete(self.ask("GET", path, token))
        return answer

    def seal(self) -> None:
        """Let go of every key, as `seal` does; a restart opens it again."""
        close_house(self.desk)

    def end(self) -> None:
        """Close it."""
        close_house(self.desk)
        if self.cluster is not None:
            self.cluster.leave()
        self.store.close()
        self.loop.run_until_complete(self.http.aclose())

    def restart(self) -> None:
        """End it and start it anew: whatever was only in memory is gone."""
        self.end()
        self.__post_init__()


@dataclass
class Pair:
    """Two nodes of one home."""

    one: Node
    other: Node
    clock: Clock

    def person(self, name: str) -> Visitor:
        """Invite somebody at one node, who enrols a passkey at the other."""
        asked = {"principal": name, "role": "person", "hours": 1}
        made = self.one.post("/v1/invitations", "operator", asked).json()
        assert self.other.post(f"/v1/invitations/{made['id']}/confirm", "custodian").status_code == 200
        begun = self.one.post("/v1/enrolment/begin", body={"invitation": made["token"]}).json()
        visitor = Visitor(self.other, name)  # type: ignore[arg-type]
        assert visitor.enrol(begun["token"]).status_code == 201
        return visitor

    def both(self, asked: Callable[[Node], Awaitable[httpx.Response]]) -> list[httpx.Response]:
        """Ask both at once: each has read the store before either commits."""

        async def ask() -> list[httpx.Response]:
            return list(await asyncio.gather(asked(self.one), asked(self.other)))

        return self.one.loop.run_until_complete(ask())


@contextmanager
def open_pair(folder: Path) -> Iterator[Pair]:
    """Make a development home below `folder` and open two nodes over it."""
    loop = asyncio.new_event_loop()
    clock = Clock()
    with home_of(folder, WISHES) as (home, made, section, _), ThreadPoolExecutor(2) as workers, ExitStack() as stack:
        stack.callback(loop.close)
        nodes = []
        for _number in range(2):
            nodes.append(Node(home, section, loop, workers, made.credentials, clock))
            stack.callback(nodes[-1].end)
        yield Pair(*nodes, clock)

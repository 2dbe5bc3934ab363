"""The server in this process, without its listener: for tests that set its clock or count what it does; on either store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from keyclave.app import wiring
from keyclave.app.ceremony import Wishes
from keyclave.app.config import Config, LogSettings, Policy
from keyclave.app.stores import AnyStore
from keyclave.identity.peer import Peer
from keyclave.operations.desk import Desk
from keyclave.operations.table import OPERATIONS
from keyclave.protocols.rest.gateway import Gateway, Head
from keyclave.store.postgres import PostgresStore
from keyclave.store.sqlite import SqliteStore
from tests.approving import Approvers
from tests.homes import home_of
from tests.placing import placed_when_read
from tests.store.inside import AtOnce
from tests.stored import stored_bytes

if TYPE_CHECKING:
    from tests.postgres import Database

ORIGIN = "keyclave.localhost/log"
WISHES = Wishes(1, 1, True, "127.0.0.1", 8443, ORIGIN, (), "tokens")
BY_PATH = {(op.method, op.path): op for op in OPERATIONS}


@dataclass
class Inside:
    """A desk, its store, and the gateway before them; `reads` counts the snapshots that were read from the store."""

    desk: Desk
    store: AnyStore
    gateway: Gateway
    tokens: dict[str, str]
    home: Path
    database: Database | None
    reads: int = 0
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    approvers: Approvers = field(init=False)

    def __post_init__(self) -> None:
        self.approvers = Approvers(self._send)

    def _send(self, path: str, ref: str, token: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        status, text = self.ask("GET" if body is None else "POST", path, token, msgspec.json.encode(body), ref=ref)
        return status, dict(msgspec.json.decode(text))

    def ask(
        self, method: str, path: str, token: str, body: Any = b"{}", *, ref: str = "", dry_run: bool = False, approval: str = ""
    ) -> tuple[int, bytes]:
        """Send a request (a GET's body is its query) and return status and body, once it is durable."""
        head = Head()
        head.authorization, head.dry_run = b"Bearer " + token.encode(), dry_run
        head.approval = approval.encode() or None

        def respond(status: int, kind: bytes, text: bytes, more: list[tuple[bytes, bytes]]) -> None:
            self.answers.append((status, text))

        self.gateway.submit(BY_PATH[method, path], ref, head, {} if method == "GET" else body, Peer("test"), respond)
        self.store.flush()
        return self.answers.pop()

    def issue(self, principal: str, role: str, scope: str = "null", ttl: int = 600) -> tuple[str, str]:
        """Issue a credential and return its id and token."""
        text = f'{{"principal":"{principal}","role":"{role}","ttl_seconds":{ttl},"scope":{scope}}}'
        by = self.tokens["operator" if role == "application" else "custodian"]
        approval = ""
        if role != "application":
            approval = self.approvers.request("credential-issue", "", msgspec.json.decode(text), by)["id"]
            self.approvers.approve(approval, by, [self.tokens["operator"]])
        status, made = self.ask("POST", "/v1/credentials", by, text.encode(), approval=approval)
        assert status == 201, made
        return made.split(b'"id":"')[1].split(b'"')[0].decode(), made.split(b'"token":"')[1].split(b'"')[0].decode()

    def stored(self) -> bytes:
        """Return all that is kept, as whoever got hold of the disk would find it."""
        return stored_bytes(self.home, self.database)

    def raw(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement past the store, as whoever holds the database could."""
        if isinstance(self.store, SqliteStore):
            return list(self.store.line.raw.execute(statement, values).fetchall())
        assert self.database is not None
        with self.database.connect() as conn:
            cursor = conn.execute(statement.replace("?", "%s"), values)
            return [] if cursor.description is None else list(cursor.fetchall())


@contextmanager
def inside(folder: Path, *, at_once: bool = False, url: str = "") -> Iterator[Inside]:
    """Make a development home below `folder` and wire the server over it; closed at the end.

    `at_once`: what would be left to another thread is done on this one, so that slow questions can be asked too. `url`: of a database
    that keeps everything, whatever `--store` says.
    """
    with ExitStack() as stack:
        home, made, section, database = stack.enter_context(home_of(folder, WISHES, url))
        config = Config(log=LogSettings(origin=ORIGIN), development=True, policy=Policy(destruction_days=0), store=section)
        workers = stack.enter_context(AtOnce() if at_once else ThreadPoolExecutor(1))
        desk, store = wiring.build(config, home, workers=workers)
        stack.callback(store.close)
        if isinstance(store, PostgresStore):
            stack.callback(placed_when_read(store).close)
        server = Inside(desk, store, Gateway(desk, OPERATIONS, lambda *_: None), made.credentials, home, database)
        read = store.read

        def counting(fn: Any) -> Any:
            server.reads += 1
            return read(fn)

        store.read = counting  # type: ignore[method-assign]
        yield server

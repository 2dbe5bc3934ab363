"""The server in this process, without its listener: for tests that set its clock or count what it does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from keyclave.app import ceremony, wiring
from keyclave.app.config import Config, LogSettings, Policy, StoreSection
from keyclave.app.stores import AnyStore
from keyclave.identity.peer import Peer
from keyclave.operations.desk import Desk
from keyclave.operations.table import OPERATIONS
from keyclave.protocols.rest.gateway import Gateway, Head
from tests.approving import Approvers
from tests.store.inside import AtOnce

ORIGIN = "keyclave.localhost/log"
BY_PATH = {(op.method, op.path): op for op in OPERATIONS}


@dataclass
class Inside:
    """A desk, its store, and the gateway before them; `reads` counts the snapshots that were read from the store."""

    desk: Desk
    store: AnyStore
    gateway: Gateway
    tokens: dict[str, str]
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


@contextmanager
def inside(folder: Path, *, at_once: bool = False, url: str = "") -> Iterator[Inside]:
    """Hold a development ceremony below `folder` and wire the server over its home; closed at the end.

    `at_once`: what would be left to another thread is done on this one, so that slow questions can be asked too. `url`: of a database
    that keeps everything in place of a file.
    """
    home = folder / "home"
    section = StoreSection(url=url)
    wishes = ceremony.Wishes(1, 1, True, "127.0.0.1", 8443, ORIGIN, (), "tokens", store=section)
    made = ceremony.hold(home, wishes)[0]
    section = StoreSection(url=url, cluster=made.cluster)
    config = Config(log=LogSettings(origin=ORIGIN), development=True, policy=Policy(destruction_days=0), store=section)
    with AtOnce() if at_once else ThreadPoolExecutor(1) as workers:
        desk, store = wiring.build(config, home, workers=workers)
        server = Inside(desk, store, Gateway(desk, OPERATIONS, lambda *_: None), made.credentials)
        read = store.read

        def counting(fn: Any) -> Any:
            server.reads += 1
            return read(fn)

        store.read = counting  # type: ignore[method-assign]
        try:
            yield server
        finally:
            store.close()

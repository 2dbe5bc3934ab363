"""The server in this process, its clock set by hand, and people to act."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keyclave.app import ceremony, wiring
from keyclave.core.clock import MICROSECONDS
from keyclave.identity.peer import Peer
from keyclave.policy.bundle import RULES, checked_bundle
from keyclave.protocols.rest.gateway import read_head
from tests.protocols.inside import BY_PATH, Inside, inside

PLAIN = base64.b64encode(b"record").decode()
ENCRYPT, DECRYPT = "/v1/keys/{key}/encrypt", "/v1/keys/{key}/decrypt"
HOUR = 3600 * MICROSECONDS


class Hands:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.at = (time.time_ns() // 10**9 + 1) * MICROSECONDS  # of today: one ceremony is held for many tests

    def now(self) -> int:
        return self.at

    def behind(self) -> int:
        return 0


class AtOnce:
    """Stands for the worker threads: does what is handed over right away."""

    def submit(self, fn: Callable[..., None], *args: Any) -> None:
        fn(*args)


class House:
    """The server in this process, a clock, and people to act."""

    def __init__(self, server: Inside, hands: Hands) -> None:
        self.server = server
        self.hands = hands
        self.tenant = str(json.loads(server.ask("GET", "/v1/whoami", server.tokens["operator"])[1])["tenant"])
        server.desk.workers = AtOnce()  # type: ignore[assignment]
        self.ask("POST", "/v1/keys", "custodian", {"name": "ward", "owner": "cardiology"}, expect=201)
        self.app = self.issued("app", "application", {"operations": ["random"], "keys": ["none"]})
        self.writer = self.issued("writer", "application", {"operations": ["encrypt"], "keys": ["ward"]})
        self.person = self.issued("clinician", "person")

    def ask(self, method: str, path: str, who: str, body: Any = None, *, ref: str = "", expect: int | None = None) -> Any:
        """Send a request, and return (status, answer), or the answer alone if its status was expected."""
        token = self.server.tokens.get(who, who)
        text = json.dumps(body or {}).encode()
        status, said = self.server.ask(method, path, token, text, ref=ref)
        answer = json.loads(said)
        if answer.get("code") == "approval_required":
            made = self.server.approvers.request(BY_PATH[method, path].name, ref, body or {}, token)
            tokens = [self.server.tokens[role] for role in ("operator", "custodian", "auditor")]
            assert self.server.approvers.approve(made["id"], token, tokens) == "approved"
            status, said = self.server.ask(method, path, token, text, ref=ref, approval=made["id"])
            answer = json.loads(said)
        if expect is None:
            return status, answer
        assert status == expect, answer
        return answer

    def issued(self, name: str, role: str, scope: Any = None) -> str:
        return self.server.issue(name, role, json.dumps(scope), ttl=86_400 * 20)[1]

    def give(self, **more: Any) -> dict[str, Any]:
        body = {"grantee": "app", "operations": ["encrypt", "sign"], "keys": ["*"], "ttl_seconds": 60, **more}
        return dict(self.ask("POST", "/v1/grants", "operator", body, expect=201))

    def use(self, who: str = "", **context: str) -> int:
        return int(self.ask("POST", ENCRYPT, who or self.app, {"plaintext": PLAIN, "context": context}, ref="ward")[0])

    def events(self, **match: Any) -> list[dict[str, Any]]:
        found = [json.loads(entry) for entry in self.server.store.read_entries(0, 10_000)]
        return [event for event in found if all(event.get(name) == value for name, value in match.items())]

    def rules(self, change: Callable[[str], str]) -> None:
        """Put changed rules in force."""
        self.policy(RULES, change(self.server.desk.access.revisions.of(self.tenant).bundle.rules))

    def policy(self, name: str, text: str) -> None:
        """Put another text of a file of the bundle in force."""
        revisions = self.server.desk.access.revisions
        files = {**revisions.of(self.tenant).bundle.files, name: text}
        revisions.put(self.tenant, revisions.number(self.tenant) + 1, revisions.compiler.compile(checked_bundle(files)))

    def send(self, path: str, who: str, ref: str, body: Any, address: str, **headers: str) -> tuple[int, Any]:
        """POST from an address, with further headers."""
        answers: list[tuple[int, Any]] = []
        sent = [(b"authorization", b"Bearer " + who.encode()), *((n.encode(), v.encode()) for n, v in headers.items())]
        self.server.gateway.submit(
            BY_PATH["POST", path], ref, read_head(sent, b""), json.dumps(body).encode(), Peer(address),
            lambda status, _kind, text, _more: answers.append((status, json.loads(text))),
        )  # fmt: skip
        self.server.store.flush()
        return answers.pop()


@contextmanager
def clocked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Make a house below `folder` whose time stands still."""
    hands = Hands()
    monkeypatch.setattr(wiring, "SystemClock", lambda floor=0: hands)
    monkeypatch.setattr(ceremony, "SystemClock", lambda floor=0: hands)
    with inside(folder) as server:
        yield House(server, hands)

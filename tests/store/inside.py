"""The server's inside without its network: the real ceremony, desk and store, in this process, one commit for each request."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from keyclave.app.ceremony import Made, Wishes
from keyclave.app.config import load
from keyclave.app.hand_over import init
from keyclave.app.wiring import build
from keyclave.identity.peer import Peer
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.once import request_digest
from keyclave.operations.operation import Operation
from keyclave.operations.table import OPERATIONS
from keyclave.operations.unseal import UnsealRequest, close_house, offer_share
from tests.approving import Approvers
from tests.homes import Held, hold_once, section_of
from tests.postgres import Database
from tests.stored import stored_bytes

WISHES = Wishes(
    threshold=2, custodians=3, development=False, host="127.0.0.1", port=8443, origin="example.org/log", names=(),
    people="tokens",
)  # fmt: skip


class AtOnce(Executor):
    """Does slow work at once, on this thread."""

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*arguments, **named))
        return done


def operation(name: str, *, batch: bool = False) -> Operation:
    """Return a row of the operation table."""
    return next(op for op in OPERATIONS if op.name == name and op.batch is batch)


@dataclass
class Inside:
    """A desk, and the people's tokens."""

    desk: Desk
    store: Any  # of either kind; what is done past it is its own
    home: Path
    shares: list[str]
    tokens: dict[str, str]
    answered: list[Attempt] = field(default_factory=list)
    database: Database | None = None
    approvers: Approvers = field(init=False)

    def __post_init__(self) -> None:
        self.approvers = Approvers(self._send)

    def _send(self, path: str, ref: str, token: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        method = "GET" if body is None else "POST"
        op = next(op for op in OPERATIONS if (op.method, op.path) == (method, path))
        attempt = self.ask(op, token, ref, body)
        if attempt.error is not None:
            return 403, {"code": attempt.error.code, "detail": attempt.error.detail}
        return op.status, dict(msgspec.json.decode(encode_answer(attempt.answer)))

    def approved(self, name: str, who: str, ref: str, body: dict[str, Any]) -> str:
        """Ask for approval of an operation, have the others sign, and return the approval's id."""
        token = self.tokens.get(who, who)
        made = self.approvers.request(name, ref, body, token)
        self.approvers.approve(made["id"], token, list(self.tokens.values()))
        return str(made["id"])

    def begin(
        self, name: str | Operation, who: str, ref: str = "", body: dict[str, Any] | None = None, **options: Any
    ) -> list[Attempt]:
        """Perform an operation up to its commit; the list holds the attempt once it is answered."""
        batch = options.pop("batch", False)
        op = operation(name, batch=batch) if isinstance(name, str) else name
        caller = self.desk.callers.authenticate(self.tokens.get(who, who).encode())
        answers: list[Attempt] = []
        attempt = self.desk.begin(op, caller, Peer("127.0.0.1"), answers.append)
        raw = msgspec.json.encode(body or {})
        if key := options.pop("idempotency", ""):
            attempt.idempotency = (key, request_digest(op.name, ref, raw))
        for option, value in options.items():
            setattr(attempt, option, value)
        request = None if op.request is None else msgspec.json.decode(raw, type=op.request)
        self.desk.perform(op, attempt, ref, request)
        return answers

    def ask(self, name: str | Operation, who: str, ref: str = "", body: dict[str, Any] | None = None, **options: Any) -> Attempt:
        """Perform an operation and commit it; the attempt holds the answer or the error."""
        answers = self.begin(name, who, ref, body, **options)
        self.store.flush()
        (attempt,) = answers
        return attempt

    def get(self, name: str, who: str, ref: str = "", body: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Perform an operation that must succeed and return its answer as JSON has it."""
        attempt = self.ask(name, who, ref, body, **options)
        if attempt.error is not None:
            raise attempt.error
        return dict(msgspec.json.decode(attempt.answer if attempt.replayed else encode_answer(attempt.answer)))

    def application(self, operations: list[str], keys: list[str]) -> str:
        """Issue a credential and return its token."""
        scope = {"operations": operations, "keys": keys}
        body = {"principal": f"app-{len(self.tokens)}", "role": "application", "ttl_seconds": 3600, "scope": scope}
        token = str(self.get("credential-issue", "operator", "", body)["token"])
        self.tokens[token] = token
        return token

    def stored(self) -> bytes:
        """Return all that is kept, as whoever got hold of the disk would find it."""
        return stored_bytes(self.home, self.database)

    def unseal(self) -> None:
        """Give shares until the house is open."""
        for share in self.shares:
            offer_share(self.desk, Peer("127.0.0.1"), UnsealRequest(share=share), self.answered.append)
            self.store.flush()
            if not self.desk.vault.sealed:
                return


@cache
def _held(postgresql: bool) -> Held[Made]:
    """Return what the ceremony made, as the program `keyclave init` holds it."""

    def hold(home: Path, url: str) -> Made:
        out = home.parent / "made.json"
        init(home, replace(WISHES, store=section_of(url)), [], out, passphrases=False)
        return msgspec.json.decode(out.read_bytes(), type=Made)

    return hold_once(hold, postgresql=postgresql)


@contextmanager
def open_inside(
    home: Path, shares: list[str], tokens: dict[str, str], *, unseal: bool = True, shared: bool = False
) -> Iterator[Inside]:
    """Open a home that a ceremony made; `shared` as one of several processes would."""
    desk, store = build(load(home), home, workers=AtOnce(), shared=shared)
    inside = Inside(desk, store, home, shares, tokens)
    with ExitStack() as stack:
        stack.callback(store.close)
        stack.callback(close_house, desk)
        if unseal:
            inside.unseal()
        yield inside


def ceremony(folder: Path, *, another: bool = False) -> tuple[Path, list[str], dict[str, str]]:
    """Make a home with a file of its own below `folder`; return it, the shares and the first people's tokens.

    `another`: by a ceremony of its own, for who needs an installation that shares nothing with the others.
    """
    held = _held.__wrapped__(False) if another else _held(False)
    shutil.copytree(held.home, folder / "home")
    return folder / "home", held.made.shares, dict(held.made.credentials)


@contextmanager
def new_inside(folder: Path, *, postgresql: bool = False) -> Iterator[Inside]:
    """Make a home below `folder` and open it."""
    held = _held(postgresql)
    with (
        held.copied(folder / "home") as database,
        open_inside(folder / "home", held.made.shares, dict(held.made.credentials)) as made,
    ):
        made.database = database
        yield made


@contextmanager
def two_inside(folder: Path) -> Iterator[tuple[Inside, Inside]]:
    """Make a home with a file of its own below `folder` and open it twice, as two processes that serve one home would."""
    home, shares, tokens = ceremony(folder)
    with (
        open_inside(home, shares, tokens, shared=True) as one,
        open_inside(home, shares, tokens, shared=True) as other,
    ):
        yield one, other

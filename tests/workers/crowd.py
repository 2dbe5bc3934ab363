"""Many clients of a server with several workers, each on a connection of its own that stays open; and the log they leave behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyclave.audit.event import Event, decode
from keyclave.store.sqlite import SqliteStore
from tests.live import Live

PLAIN = {"plaintext": "aGVsbG8="}
WAIT_SECONDS = 60


class _InOnePiece(http.client.HTTPSConnection):
    """Sends head and body together: only then is a head that comes again known at a look."""

    _pieces: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._pieces = []
        super().request(*args, **kwargs)
        whole, self._pieces = b"".join(self._pieces), None
        super().send(whole)

    def send(self, data: Any) -> None:
        if self._pieces is None:
            super().send(data)
        else:
            self._pieces.append(data)


class Pinned:
    """One connection: all its requests go to the worker that took it."""

    def __init__(self, live: Live) -> None:
        self._http = _InOnePiece("127.0.0.1", live.port, timeout=40, context=ssl.create_default_context(cafile=live.ca_file))
        self._http.connect()

    def post(self, path: str, token: str = "", body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """POST a JSON body; return the status and the answer."""
        head = {"content-type": "application/json", **headers}
        if token:
            head["authorization"] = f"Bearer {token}"
        self._http.request("POST", path, json.dumps({} if body is None else body), head)
        answer = self._http.getresponse()
        return answer.status, json.loads(answer.read())

    def get(self, path: str) -> dict[str, Any]:
        """GET what needs no credential."""
        self._http.request("GET", path)
        return dict(json.loads(self._http.getresponse().read()))

    def close(self) -> None:
        self._http.close()


@contextlib.contextmanager
def pinned(live: Live, count: int) -> Iterator[list[Pinned]]:
    """Open connections. Of 16 over two workers all lie with one of them once in 32,768 times."""
    made = [Pinned(live) for _ in range(count)]
    yield made
    for one in made:
        one.close()


@dataclass
class Seen:
    """One request of a crowd: when it was sent and answered, and what came. Status 0: the connection broke."""

    sent: float
    answered: float
    status: int
    event: str


@dataclass
class Crowd:
    """Clients that go on asking for the same until told to stop; one whose connection breaks opens another."""

    live: Live
    path: str
    token: str
    body: Any = field(default_factory=lambda: PLAIN)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Crowd:
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(8)]
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join(WAIT_SECONDS)
            assert not one.is_alive(), "a client still waits for an answer"

    def until(self, enough: Callable[[list[Seen]], bool]) -> None:
        """Go on until something was seen."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not enough(list(self.seen)):
            assert time.monotonic() < deadline, f"not seen among {len(self.seen)} answers: {self.seen[-3:]}"
            time.sleep(0.005)  # between two looks at a condition

    def more(self, count: int) -> None:
        """Go on for so many further answers."""
        so_far = len(self.seen)
        self.until(lambda seen: len(seen) >= so_far + count)

    def _ask(self) -> None:
        connection: Pinned | None = None
        while not self._over.is_set():
            sent = time.monotonic()
            try:
                connection = connection or Pinned(self.live)
                status, answer = connection.post(self.path, self.token, self.body)
                self.seen.append(Seen(sent, time.monotonic(), status, answer.get("event") or ""))
            except (OSError, http.client.HTTPException):
                self.seen.append(Seen(sent, time.monotonic(), 0, ""))
                if connection is not None:
                    connection.close()
                connection = None


def workers_of(live: Live) -> list[int]:
    """Return the process ids of the supervisor's children."""
    return [int(pid) for pid in Path(f"/proc/{live.process.pid}/task/{live.process.pid}/children").read_text().split()]


def events(home: Path) -> list[Event]:
    """Return the whole log, as it lies in the database."""
    store = SqliteStore(home / "keyclave.db", shared=True)
    try:
        return [decode(bytes(entry)) for entry in store.read_entries(0, 10_000_000)]
    finally:
        store.close()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)  # between two looks at a condition

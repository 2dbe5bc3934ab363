"""Applications and people that use all nodes through the client library, and remember exactly what was acknowledged.

Each thread talks to one node until it gets no answer or "unavailable", and then to the next. Changes carry idempotency keys and are
sent again, to another node, with the same key until they are answered: each must have happened once.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drill.ha.fleet import Fleet
from keyclave_client import Client
from keyclave_client.errors import KeyclaveError, Sealed, Unavailable

KEY = "drill"
_PAUSE = 0.02  # seconds between two tries that met no server


@dataclass
class Seen:
    """What the clients saw."""

    events: dict[str, str] = field(default_factory=dict)  # acknowledged event -> operation
    protected: list[tuple[bytes, bytes]] = field(default_factory=list)  # (ciphertext, plaintext)
    created: dict[str, str] = field(default_factory=dict)  # key name -> id
    issued: dict[str, str] = field(default_factory=dict)  # principal -> credential id
    refused: int = 0  # answers "unavailable" or none
    repeated: int = 0  # changes that were sent again with the same idempotency key
    wrong: list[str] = field(default_factory=list)
    served: list[float] = field(default_factory=list)  # the monotonic time of each answer to an application
    changed: list[float] = field(default_factory=list)  # and to a person

    def longest_gap(self, times: list[float], since: float) -> float:
        """Return the longest time between two answers, of those gaps that ended after a moment."""
        ordered = sorted(times)
        return max((b - a for a, b in itertools.pairwise(ordered) if b >= since), default=0.0)


class Traffic:
    """The clients of one drill."""

    def __init__(self, fleet: Fleet, application: str) -> None:
        self.seen = Seen()
        self._fleet = fleet
        self._application = application
        self._lock = threading.Lock()
        self._end = threading.Event()
        loops = [self._encrypt, self._encrypt, self._encrypt, self._round_trip, self._create, self._issue]
        self._threads = [threading.Thread(target=self._loop, args=(loop, n), daemon=True) for n, loop in enumerate(loops)]

    def start(self) -> None:
        """Set them going."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Seen:
        """End them, each with its last answer."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        return self.seen

    def _loop(self, act: Callable[[Connections], None], number: int) -> None:
        with Connections(self._fleet, number) as connections:
            while not self._end.is_set():
                try:
                    act(connections)
                except (Unavailable, Sealed):
                    self._missed(connections)
                except KeyclaveError as refusal:
                    self.seen.wrong.append(f"{type(refusal).__name__} {refusal.code}: {refusal.detail}")
                    self._end.wait(_PAUSE)

    def _missed(self, connections: Connections) -> None:
        with self._lock:
            self.seen.refused += 1
        connections.next()
        self._end.wait(_PAUSE)

    def _note(self, event: str | None, operation: str, times: list[float]) -> None:
        with self._lock:
            if event is None:
                self.seen.wrong.append(f"an answer to {operation} names no event")
            else:
                self.seen.events[event] = operation
            times.append(time.monotonic())

    # ---- applications -----------------------------------------------------------------------------------------------------
    def _encrypt(self, connections: Connections) -> None:
        plaintext = uuid.uuid4().bytes
        got = connections.of(self._application).encrypt(KEY, plaintext)
        self._note(got.event, "encrypt", self.seen.served)
        self.seen.protected.append((got.ciphertext, plaintext))

    def _round_trip(self, connections: Connections) -> None:
        if not self.seen.protected:
            self._end.wait(_PAUSE)
            return
        ciphertext, plaintext = self.seen.protected[len(self.seen.protected) // 2]
        got = connections.of(self._application).decrypt(KEY, ciphertext)
        self._note(got.event, "decrypt", self.seen.served)
        if got.plaintext != plaintext:
            self.seen.wrong.append("a ciphertext opened to something else")

    # ---- people -----------------------------------------------------------------------------------------------------------
    def _until_answered(self, connections: Connections, role: str, change: Callable[[Client], Any]) -> Any:
        """Send a change until it is answered, at the latest by somebody who is there after the drill."""
        first = True
        while True:
            try:
                return change(connections.of(role))
            except (Unavailable, Sealed):
                self._missed(connections)
                with self._lock:
                    self.seen.repeated += first
                first = False

    def _create(self, connections: Connections) -> None:
        name, key = "made-" + uuid.uuid4().hex, str(uuid.uuid4())
        made = self._until_answered(
            connections, "custodian", lambda client: client.create_key(
                name, owner="drill", environment="test", classification="ePHI", idempotency_key=key
            ),
        )  # fmt: skip
        self._note(made.event, "key-create", self.seen.changed)
        self.seen.created[name] = made.id
        self._end.wait(0.05)

    def _issue(self, connections: Connections) -> None:
        principal, key = "app-" + uuid.uuid4().hex, str(uuid.uuid4())
        scope = {"operations": ["encrypt"], "keys": [KEY]}
        made = self._until_answered(
            connections, "operator",
            lambda client: client.issue_credential(principal, "application", 86_400, scope, idempotency_key=key),
        )  # fmt: skip
        self._note(made.event, "credential-issue", self.seen.changed)
        self.seen.issued[principal] = made.id
        self._end.wait(0.05)


class Connections:
    """A thread's clients, one for each node and token; it uses one node at a time."""

    def __init__(self, fleet: Fleet, at: int) -> None:
        self._fleet, self._at = fleet, at
        self._clients: dict[tuple[int, str], Client] = {}

    def __enter__(self) -> Connections:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    def of(self, token: str) -> Client:
        """Return the client of the present node."""
        place = self._at % len(self._fleet.nodes)
        if (place, token) not in self._clients:
            self._clients[place, token] = self._fleet.client(self._fleet.nodes[place], token)
        return self._clients[place, token]

    def next(self) -> None:
        """Go to the next node."""
        self._at += 1

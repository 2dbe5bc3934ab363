"""Revocation under fire: credentials and keys that every node uses all the time are revoked, and no use may come after that.

A use counts as one after the revocation when it was asked for after `revoke` had returned and was answered all the same, or when it
was asked for before and answered so much later that the answer cannot have been on its way: from a node that was frozen meanwhile.
"""

from __future__ import annotations

import ssl
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from drill.ha.fleet import Fleet, Node
from drill.ha.process import NotYet, wait_for
from drill.ha.traffic import Connections
from keyclave_client.errors import KeyclaveError, Sealed, Unavailable, WrongState

_WAYS = ("credential", "suspend", "compromise")  # what takes uses away: from an application, and from everybody
_ON_ITS_WAY = 0.3  # seconds that an answer given before may take to be read, on a busy machine
_AFTER = 0.4  # seconds that uses are tried after the revocation


@dataclass
class Revoked:
    """What came of the revocations of one drill."""

    count: int = 0
    uses_before: int = 0
    uses_after: int = 0
    seconds: list[float] = field(default_factory=list)  # each revocation took that returned at the first try
    events: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Revoker:
    """Revokes one thing after the other until told to stop."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.revoked = Revoked()

    def start(self) -> None:
        """Set it going."""
        self._thread.start()

    def stop(self) -> Revoked:
        """End it after the revocation under way."""
        self._end.set()
        self._thread.join()
        return self.revoked

    def _loop(self) -> None:
        with Connections(self._fleet, 2) as connections:  # the first two are those that are frozen and cut off
            while not self._end.is_set():
                try:
                    self._one(connections, _WAYS[self.revoked.count % len(_WAYS)])
                except (Unavailable, Sealed, NotYet):
                    connections.next()
                    self._end.wait(0.05)
                except KeyclaveError as refusal:
                    self.revoked.notes.append(f"revoking: {refusal.code}: {refusal.detail}")
                    connections.next()
                    self._end.wait(0.2)

    def _one(self, connections: Connections, way: str) -> None:
        """Make a key and a credential for it, let all nodes use it, and take it away in one of the ways."""
        name = "doomed-" + uuid.uuid4().hex
        connections.of("custodian").create_key(name, owner="drill", environment="test", classification="ePHI")
        scope = {"operations": ["encrypt"], "keys": [name]}
        made = connections.of("operator").issue_credential("app-" + name, "application", 3600, scope)
        assert made.token is not None
        users = [_User(self._fleet, node, made.token, name) for node in self._fleet.nodes]
        for user in users:
            user.start()
        try:
            wait_for("some node uses the key", lambda: sum(len(user.answered) for user in users) >= 12, 20)
            if way == "credential":
                revoke = lambda: connections.of("operator").revoke_credential(made.id, "drill").event  # noqa: E731
            else:
                revoke = lambda: connections.of("custodian").move(name, way, reason="drill").event  # noqa: E731
            returned = self._until_revoked(connections, revoke)
            time.sleep(_AFTER)  # the uses that are tried after it are the point
        finally:
            for user in users:
                user.stop()
        self._count(users, returned)

    def _until_revoked(self, connections: Connections, revoke: Callable[[], str | None]) -> float:
        """Ask until it is answered; return the monotonic time of the answer."""
        first = True
        while True:
            began = time.monotonic()
            try:
                event = revoke()
            except (Unavailable, Sealed):
                first = False
                connections.next()
                time.sleep(0.02)  # before the next node is asked
                continue
            except WrongState:
                event = None  # an earlier try did it, without an answer: it is revoked, and this answer says so
            now = time.monotonic()
            if event is not None:
                self.revoked.events[event] = "revoke"
            if first:
                self.revoked.seconds.append(now - began)
            return now

    def _count(self, users: list[_User], returned: float) -> None:
        self.revoked.count += 1
        for user in users:
            for asked, answered in user.answered:
                if asked > returned or answered > returned + _ON_ITS_WAY:
                    self.revoked.uses_after += 1
                    self.revoked.notes.append(
                        f"{user.node.name} used it {answered - returned:.3f} s after revoke returned, asked {asked - returned:+.3f} s"
                    )
                else:
                    self.revoked.uses_before += 1
            self.revoked.events.update(user.events)


class _User(threading.Thread):
    """Uses a key on one node as fast as it is answered. Nothing is sent twice, so it is known when each use was asked for."""

    def __init__(self, fleet: Fleet, node: Node, token: str, key: str) -> None:
        super().__init__(daemon=True)
        self.node, self._path = node, f"/v1/keys/{key}/encrypt"
        headers = {"authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=fleet.ca_file)
        self._http = httpx.Client(base_url=node.url, verify=context, headers=headers, timeout=10, trust_env=False)
        self._end = threading.Event()
        self.answered: list[tuple[float, float]] = []  # (asked, answered), on the monotonic clock
        self.events: dict[str, str] = {}

    def run(self) -> None:
        """Use it."""
        while not self._end.is_set():
            asked = time.monotonic()
            try:
                got = self._http.post(self._path, json={"plaintext": "dXNl"})
            except httpx.TransportError:
                self._end.wait(0.02)
                continue
            if got.status_code == 200:
                self.answered.append((asked, time.monotonic()))
                self.events[got.json()["event"]] = "encrypt"
            else:
                self._end.wait(0.005)

    def stop(self) -> None:
        """End it with its last answer."""
        self._end.set()
        self.join()
        self._http.close()

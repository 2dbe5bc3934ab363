"""Once `seal`, `revoke` or `suspend` is answered nothing is used any more, and in the record no use follows it: under load, over
the wire, for quick and for slow operations alike.

Many clients use a key without pause while somebody takes the right away; the record is the witness.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drill.wire import Silence, Wire
from tests.live import Live, launch

TEXT = base64.b64encode(b"record").decode()
QUICK = ("encrypt", {"plaintext": TEXT})
BATCH = ("encrypt/batch", {"items": [{"plaintext": TEXT}] * 50})
SLOW = ("data-key-pair", {"spec": "rsa-3072"})
USES = ("encrypt", "data-key-pair", "re-encrypt")
ROUNDS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = launch(tmp_path_factory.mktemp("races"))
    yield live
    live.stop()


class Users:
    """Clients that repeat one operation each until they are refused, and remember what came after the end was announced."""

    def __init__(self, live: Live, token: str, asks: list[tuple[str, dict[str, Any]]], count: int) -> None:
        self.over = threading.Event()  # the answer that takes the right away is here
        self.late: list[str] = []
        self.used = 0
        self._live, self._token = live, token
        work = [asks[n % len(asks)] for n in range(count)]
        self._threads = [threading.Thread(target=self._use, args=ask, daemon=True) for ask in work]
        self._warm = threading.Barrier(count + 1)

    def start(self) -> None:
        """Return when all of them are at it."""
        for thread in self._threads:
            thread.start()
        self._warm.wait(60)

    def _use(self, path: str, body: dict[str, Any]) -> None:
        wire = Wire(self._live, self._token)
        first = True
        try:
            while True:
                announced = self.over.is_set()  # before the request leaves
                status, answer = wire.post(path, body)
                if status != 200 or all("error" in result for result in answer.get("results", [{}])):
                    return
                self.used += 1
                if announced:
                    self.late.append(str(answer)[:100])
                    return
                if first:
                    first = False
                    self._warm.wait(60)
        except Silence:
            self.late.append("no answer")
        finally:
            wire.close()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def record(live: Live, start: int = 0) -> list[dict[str, Any]]:
    """Return the events from number `start`."""
    events: list[dict[str, Any]] = []
    at: int | None = start
    while at is not None:
        page = live.get(f"/v1/audit/events?from={at}&limit=1000", "auditor").json()
        events += page["events"]
        at = page["next"]
    return events


def is_use(event: dict[str, Any]) -> bool:
    """Tell whether an event shows that something was done with a key."""
    return event["op"] in USES and event["outcome"] == "ok" and event.get("failed", 0) < event.get("count", 1)


def uses_after(events: list[dict[str, Any]], end: str, mine: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the successful uses that the record shows behind the event `end`."""
    index = next(e["index"] for e in events if e["id"] == end)
    uses = [e for e in events if is_use(e) and mine(e)]
    assert any(e["index"] < index for e in uses)  # there was something to stop
    return [e for e in uses if e["index"] > index]


ASKS = {"quick": [QUICK], "batches and singles": [QUICK, BATCH], "slow": [SLOW, QUICK]}


def paths(asks: list[tuple[str, dict[str, Any]]], key: str) -> list[tuple[str, dict[str, Any]]]:
    return [(f"/v1/keys/{key}/{verb}", body) for verb, body in asks]


@pytest.mark.requirement("R33", "P4", "R44")
@pytest.mark.parametrize("kind", ASKS)
def test_no_use_follows_the_revocation_of_its_credential(server: Live, kind: str) -> None:
    name = "revoked-" + kind.replace(" ", "-")
    key = server.create_key(name)["id"]
    for _ in range(ROUNDS if kind != "slow" else 3):
        start = server.get("/v1/status").json()["log"]["size"]
        token = server.token(["encrypt", "data-key-pair"], [name])
        credential = server.get("/v1/whoami", token).json()["credential"]
        users = Users(server, token, paths(ASKS[kind], name), 8)
        users.start()
        answer = server.post(f"/v1/credentials/{credential}/revoke", "operator")
        users.over.set()
        users.join()
        assert answer.status_code == 200
        assert users.late == []
        events = record(server, start)
        assert uses_after(events, answer.json()["event"], lambda e: e["credential"] == credential and e["key"] == key) == []  # noqa: B023


@pytest.mark.requirement("R23", "R44")
@pytest.mark.parametrize("kind", ASKS)
def test_no_use_follows_the_suspension_of_its_key(server: Live, kind: str) -> None:
    name = "suspended-" + kind.replace(" ", "-")
    key = server.create_key(name)["id"]
    token = server.token(["encrypt", "data-key-pair"], [name])
    for _ in range(ROUNDS if kind != "slow" else 3):
        start = server.get("/v1/status").json()["log"]["size"]
        users = Users(server, token, paths(ASKS[kind], name), 8)
        users.start()
        answer = server.post(f"/v1/keys/{name}/suspend", "operator", {"reason": "a leak is suspected"})
        users.over.set()
        users.join()
        assert answer.status_code == 200, answer.text
        assert users.late == []
        assert uses_after(record(server, start), answer.json()["event"], lambda e: e["key"] == key) == []
        assert server.post(f"/v1/keys/{name}/resume", "operator", {"reason": "no leak"}).status_code == 200


@pytest.mark.requirement("R23", "R44")
def test_nothing_is_moved_to_a_key_once_it_is_suspended(server: Live) -> None:
    server.create_key("from-here")
    target = server.create_key("to-there")["id"]
    token = server.token(["encrypt", "re-encrypt"], ["from-here", "to-there"])
    sealed = server.post("/v1/keys/from-here/encrypt", token, {"plaintext": TEXT}).json()["ciphertext"]
    for _ in range(ROUNDS):
        start = server.get("/v1/status").json()["log"]["size"]
        users = Users(server, token, [("/v1/keys/from-here/re-encrypt", {"ciphertext": sealed, "to_key": "to-there"})], 8)
        users.start()
        answer = server.post("/v1/keys/to-there/suspend", "operator", {"reason": "a leak is suspected"})
        users.over.set()
        users.join()
        assert users.late == []
        moved = uses_after(
            record(server, start), answer.json()["event"], lambda e: (e.get("detail") or {}).get("to_key") == target
        )
        assert moved == []
        assert server.post("/v1/keys/to-there/resume", "operator", {"reason": "no leak"}).status_code == 200


@pytest.mark.requirement("R16", "R44")
@pytest.mark.parametrize("kind", ASKS)
def test_no_use_follows_the_sealing(server: Live, kind: str) -> None:
    name = "sealed-" + kind.replace(" ", "-")
    server.create_key(name)
    token = server.token(["encrypt", "data-key-pair"], [name])
    for _ in range(3):
        start = server.get("/v1/status").json()["log"]["size"]
        users = Users(server, token, paths(ASKS[kind], name), 8)
        users.start()
        answer = server.post("/v1/seal", "operator")
        users.over.set()
        users.join()
        assert (answer.status_code, answer.json()["sealed"]) == (200, True)
        assert users.late == []
        assert server.get("/v1/health").json() == {"status": "sealed"}
        server.unseal()
        assert server.get("/v1/health").json() == {"status": "ok"}
        assert uses_after(record(server, start), answer.json()["event"], lambda e: True) == []


@pytest.mark.requirement("R24")
def test_after_a_rotation_is_answered_nothing_is_protected_by_the_version_before(server: Live) -> None:
    server.create_key("turning")
    token = server.token(["encrypt"], ["turning"])
    for turn in range(2, 8):
        users = Users(server, token, paths([QUICK, BATCH], "turning"), 4)
        users.start()
        answer = server.post("/v1/keys/turning/rotate", "operator").json()
        server.post("/v1/keys/turning/suspend", "operator", {"reason": "ends the round"})
        users.over.set()
        users.join()
        after = [e for e in record(server, int(answer["event"].rpartition("-")[2])) if is_use(e)]
        assert {e["version"] for e in after} <= {turn}
        assert server.post("/v1/keys/turning/resume", "operator", {"version": turn, "reason": "next"}).status_code == 200


def test_a_user_who_is_never_stopped_would_be_seen(server: Live, tmp_path: Path) -> None:
    """The check itself: uses behind an event that takes nothing away are found."""
    server.create_key("unhindered")
    token = server.token(["encrypt"], ["unhindered"])
    start = server.get("/v1/status").json()["log"]["size"]
    server.post("/v1/keys/unhindered/encrypt", token, {"plaintext": TEXT})
    event = server.get("/v1/whoami", token).json()["event"]
    server.post("/v1/keys/unhindered/encrypt", token, {"plaintext": TEXT})
    assert len(uses_after(record(server, start), event, lambda e: e["op"] == "encrypt")) == 1

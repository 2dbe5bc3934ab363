"""Which changes wait for nodes that may decrypt after their leases, and which are answered as quickly as ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keyclave.identity.peer import Peer
from keyclave.operations.nodes.lease import Lease, steady
from keyclave.operations.nodes.membership import Membership
from keyclave.protocols.rest.gateway import Head
from keyclave.store import nodes
from tests.cluster import test_rows
from tests.protocols.inside import BY_PATH, Inside, inside

pytestmark = pytest.mark.requirement("P4", "R22")

STALE = 30


class Scene:
    """A node among others, one of which has a spool; `reach` is what the last change was told to wait for."""

    def __init__(self, server: Inside) -> None:
        self.server = server
        self.reach: list[float] = []
        lease = Lease(3600.0, steady)
        for _ in range(2):
            lease.renewed(steady())
        member = Membership("me", lease, self.hold)
        server.desk.membership = member
        other = msgspec.structs.replace(test_rows._node("other"), stale=STALE * 1_000_000)
        server.store.write(lambda conn: conn.execute(nodes.t.nodes.insert().values(**msgspec.structs.asdict(other))))

    def hold(self, release: Any, reach: float) -> None:
        self.reach.append(reach)
        release()

    def change(self, path: str, who: str = "custodian", ref: str = "", method: str = "POST", key: str = "", **body: Any) -> float:
        """Make a change; return for how many seconds more than usual it waits for a silent node."""
        head, answers = Head(), []
        head.authorization = b"Bearer " + self.server.tokens[who].encode()
        head.idempotency_key = key.encode() or None
        self.reach.clear()
        self.server.gateway.submit(
            BY_PATH[method, path], ref, head, json.dumps(body).encode(), Peer("test"),
            lambda status, _kind, text, _more: answers.append((status, text)),
        )  # fmt: skip
        self.server.store.flush()
        ((status, text),) = answers
        assert status in (200, 201), text
        (reach,) = self.reach
        return reach

    def create(self, name: str, **more: Any) -> float:
        return self.change("/v1/keys", name=name, owner="o", **more)

    def update(self, name: str, **more: Any) -> float:
        return self.change("/v1/keys/{key}", method="PATCH", ref=name, **more)

    def suspend(self, name: str, key: str = "") -> float:
        return self.change("/v1/keys/{key}/suspend", ref=name, key=key, reason="x")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with inside(tmp_path) as server:
        server.ids = [server.issue(f"app-{i}", "application", '{"operations":["decrypt"],"keys":["k"],"context":{}}')[0] for i in range(3)]  # type: ignore[attr-defined]  # fmt: skip
        made = Scene(server)
        yield made
        server.desk.membership = None


def test_what_no_key_allows_nothing_waits_for(scene: Scene) -> None:
    assert scene.create("plain") == 0
    assert scene.suspend("plain") == 0
    assert scene.change("/v1/credentials/{credential}/revoke", "operator", ref=scene.server.ids[0]) == 0


def test_once_a_key_allows_it_all_waits_but_changes_of_keys_that_never_did(scene: Scene) -> None:
    assert scene.create("firm", stale_ok=True) == 0  # nobody holds it yet
    assert scene.create("plain") == 0
    assert scene.update("plain", owner="x") == 0
    assert scene.suspend("plain") == 0
    assert scene.update("firm", owner="x") == STALE
    assert scene.suspend("firm") == STALE
    assert scene.change("/v1/credentials/{credential}/revoke", "operator", ref=scene.server.ids[0]) == STALE


def test_what_was_allowed_once_is_waited_for_ever_after(scene: Scene) -> None:
    scene.create("plain")
    assert scene.update("plain", stale_ok=True, reason="x") == 0  # who was cut off before does not know of it
    assert scene.update("plain", stale_ok=False) == STALE
    assert scene.update("plain", owner="y") == STALE
    assert scene.suspend("plain") == STALE
    assert scene.change("/v1/credentials/{credential}/revoke", "operator", ref=scene.server.ids[0]) == STALE


def test_who_sends_a_change_again_waits_as_long(scene: Scene) -> None:
    scene.create("firm", stale_ok=True)
    assert scene.suspend("firm", key="once") == STALE
    assert scene.suspend("firm", key="once") == STALE


def test_a_spool_that_has_left_is_not_waited_for(scene: Scene) -> None:
    scene.create("firm", stale_ok=True)
    scene.server.store.write(lambda conn: nodes.leave(conn, "other"))
    assert scene.suspend("firm") == 0

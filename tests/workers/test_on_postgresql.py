"""Two workers of one machine on PostgreSQL: each is a node, and together they are one server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, launch
from tests.postgres import Database, new_database
from tests.workers.crowd import PLAIN, Crowd, pinned, wait_for, workers_of


@pytest.fixture(scope="module")
def shared() -> Iterator[Database]:
    with new_database() as made:
        yield made


@pytest.fixture(scope="module")
def two(shared: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder: Path = tmp_path_factory.mktemp("pg")
    live = launch(
        folder, "--store", shared.url(), "--development", workers=2,
        configure=lambda text: text.replace("[store]\n", f"[store]\nconnections = {CONNECTIONS}\n"),
    )  # fmt: skip
    wait_for(lambda: leased(live) == 2, "both workers to have a lease")
    yield live
    live.stop()


@pytest.mark.requirement("R5")
def test_all_workers_together_hold_no_more_connections_than_are_configured(two: Live, shared: Database) -> None:
    two.create_key("crowded")
    held = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'keyclave_app' AND datname = current_database()"
    with Crowd(two, "/v1/keys/crowded/encrypt", two.token(["encrypt"], ["*"])) as crowd, shared.connect() as conn:
        for _ in range(5):
            crowd.more(40)
            assert conn.execute(held).fetchone() == (CONNECTIONS,)
    assert {one.status for one in crowd.seen} == {200}


CONNECTIONS = 16


def leased(live: Live) -> int:
    """Return how many workers have said so far that they serve with a lease."""
    return (live.home.parent / f"{live.home.name}.server.log").read_text().count("serves with a lease")


@pytest.mark.requirement("P4", "R22", "R24")
def test_a_credential_revoked_at_one_worker_opens_nothing_at_any(two: Live) -> None:
    two.create_key("k")
    token = two.token(["encrypt"], ["*"])
    credential = two.get("/v1/whoami", token).json()["credential"]
    with Crowd(two, "/v1/keys/k/encrypt", token) as crowd:
        crowd.more(200)
        answer = two.post(f"/v1/credentials/{credential}/revoke", "operator", {"reason": "lost"})
        assert answer.status_code == 200, answer.text
        moment = max(one.answered for one in crowd.seen)
        crowd.more(100)
    assert not [one for one in crowd.seen if one.sent > moment and one.status == 200]
    assert {one.status for one in crowd.seen} == {200, 401}


@pytest.mark.requirement("P4", "R5", "R22", "R32")
def test_they_are_sealed_unsealed_and_replaced_like_those_on_a_file(two: Live) -> None:
    two.create_key("again")
    token = two.token(["encrypt"], ["*"])
    with pinned(two, 16) as connections:
        assert connections[0].post("/v1/seal", two.tokens["operator"])[0] == 200
        assert all(one.get("/v1/status")["sealed"] for one in connections)
        assert {one.post("/v1/keys/again/encrypt", token, PLAIN)[0] for one in connections} == {503}
        two.unseal()
        assert not any(one.get("/v1/status")["sealed"] for one in connections)
        assert {one.post("/v1/keys/again/encrypt", token, PLAIN)[0] for one in connections} == {200}
    before = workers_of(two)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: leased(two) == 3, "a new worker to have a lease")
    with pinned(two, 16) as connections:
        assert {one.post("/v1/keys/again/encrypt", token, PLAIN)[0] for one in connections} == {200}

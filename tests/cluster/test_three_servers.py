"""Three servers on one PostgreSQL: what one takes away is gone at all of them, whoever is frozen, killed or drained."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bench.sizing import CONNECTIONS
from tests.cluster.several import Several, again, is_ready, several
from tests.live import Live
from tests.postgres import new_database
from tests.waiting import until

TEXT = base64.b64encode(b"heart rate 61").decode()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    with new_database() as database, several(tmp_path_factory.mktemp("several"), database) as made:
        yield made


def _encrypt(node: Live, token: str, key: str) -> int:
    return node.post(f"/v1/keys/{key}/encrypt", token, {"plaintext": TEXT}).status_code


def test_a_node_holds_as_many_connections_as_operators_are_told_to_allow_for(three: Several) -> None:
    for node in three.nodes:
        until(lambda node=node: is_ready(node), "a node is not ready")
    with three.database.connect() as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'keyclave_app'"
        )
        assert row.fetchone() == (CONNECTIONS * len(three.nodes),)
    assert f"each server process holds {CONNECTIONS}." in (Path(__file__).parents[2] / "docs/postgresql.md").read_text()


@pytest.mark.requirement("P4", "R22")
def test_a_key_made_here_is_used_there_and_a_suspension_returns_when_all_know(three: Several) -> None:
    one, two, three_ = three.nodes
    one.create_key("chart")
    token = one.token(["encrypt"], ["chart"])
    assert [_encrypt(node, token, "chart") for node in three.nodes] == [200, 200, 200]
    took = time.monotonic()
    assert one.post("/v1/keys/chart/suspend", "custodian", {"reason": "lost"}).status_code == 200
    took = time.monotonic() - took
    assert [_encrypt(node, token, "chart") for node in three.nodes] == [409, 409, 409]
    assert took < 1.0, "healthy nodes are not waited for as for silent ones"
    assert two.post("/v1/keys/chart/resume", "operator", {"reason": "found"}).status_code == 200
    assert _encrypt(three_, token, "chart") == 200


@pytest.mark.requirement("P4", "R22")
def test_no_use_after_revoke_returned_while_clients_hammer_every_node(three: Several) -> None:
    one = three.nodes[0]
    one.create_key("busy")
    made = one.post(
        "/v1/credentials", "operator",
        {"principal": "busy-app", "role": "application", "ttl_seconds": 3600,
         "scope": {"operations": ["encrypt"], "keys": ["busy"], "context": {}}},
    ).json()  # fmt: skip
    uses: list[tuple[float, float, int]] = []
    stop = threading.Event()

    def hammer(node: Live) -> None:
        mine = again(node)
        while not stop.is_set():
            began = time.monotonic()
            status = _encrypt(mine, made["token"], "busy")
            uses.append((began, time.monotonic(), status))

    threads = [threading.Thread(target=hammer, args=(node,)) for node in three.nodes]
    for thread in threads:
        thread.start()
    until(lambda: sum(status == 200 for _, _, status in uses) > 60, "nothing is used")
    answer = one.post(f"/v1/credentials/{made['id']}/revoke", "operator")
    assert answer.status_code == 200, answer.text
    returned = time.monotonic()
    until(lambda: len(uses) and sum(began > returned for began, _, _ in list(uses)) > 30, "nothing is asked")
    stop.set()
    for thread in threads:
        thread.join()
    assert {status for began, _, status in uses if began > returned} == {401}
    assert [1 for _, ended, status in uses if status == 200 and ended > returned] == []


@pytest.mark.requirement("P4", "R22")
def test_a_frozen_node_delays_a_suspension_by_its_lease_and_uses_nothing_when_it_wakes(three: Several) -> None:
    one, two, frozen = three.nodes
    one.create_key("cold")
    token = one.token(["encrypt"], ["cold"])
    assert _encrypt(frozen, token, "cold") == 200
    os.kill(frozen.process.pid, signal.SIGSTOP)
    try:
        sent = threading.Thread(target=lambda: late.append(_encrypt(again(frozen), token, "cold")))
        late: list[int] = []
        began = time.monotonic()
        assert one.post("/v1/keys/cold/suspend", "custodian", {"reason": "lost"}).status_code == 200
        took = time.monotonic() - began
        sent.start()
        assert took <= 1.25 + 0.3
        assert _encrypt(two, token, "cold") == 409
    finally:
        os.kill(frozen.process.pid, signal.SIGCONT)
    sent.join()
    assert late[0] in (409, 503)
    until(lambda: is_ready(frozen), "the thawed node does not come back")
    assert _encrypt(frozen, token, "cold") == 409
    began = time.monotonic()
    assert two.post("/v1/keys/cold/resume", "operator", {"reason": "found"}).status_code == 200
    assert time.monotonic() - began < 1.0


@pytest.mark.requirement("R6", "P1")
def test_the_sequencer_is_killed_and_another_places_what_all_have_kept(three: Several) -> None:
    first = three.sequencer()
    others = [node for node in three.nodes if node is not first]
    others[0].create_key("kept")
    token = others[0].token(["encrypt"], ["kept"])
    answers = [node.post("/v1/keys/kept/encrypt", token, {"plaintext": TEXT}).json()["event"] for node in three.nodes]
    first.kill()
    answers += [node.post("/v1/keys/kept/encrypt", token, {"plaintext": TEXT}).json()["event"] for node in others]
    took = until(
        lambda: all(others[1].get(f"/v1/audit/receipts/{event}", "auditor").json().get("proof") for event in answers),
        "nobody places the events",
    )
    assert took <= 5
    first.restart()
    until(lambda: is_ready(first), "the killed node does not come back")
    events = [event["id"] for event in _all_events(others[0])]
    assert len(events) == len(set(events))
    assert set(answers) <= set(events)


def _all_events(node: Live) -> list[dict[str, str]]:
    found, place = [], 0
    while True:
        page = node.get(f"/v1/audit/events?from={place}&limit=1000", "auditor").json()
        found += page["events"]
        if page["next"] is None:
            return found
        place = page["next"]


@pytest.mark.requirement("R22")
def test_a_seal_reaches_every_node(three: Several) -> None:
    assert three.nodes[1].post("/v1/seal", "custodian").status_code == 200
    assert [node.get("/v1/health").json()["status"] for node in three.nodes] == ["sealed"] * 3
    for node in three.nodes:
        node.unseal()
    for node in three.nodes:
        until(lambda node=node: is_ready(node), "a node is not ready")


@pytest.mark.requirement("P1", "P4", "R32")
def test_cut_off_from_the_database_a_node_uses_nothing_and_comes_back_by_itself(three: Several) -> None:
    one = three.nodes[0]
    one.create_key("cut")
    token = one.token(["encrypt"], ["cut"])
    assert _encrypt(one, token, "cut") == 200
    name = three.database.name
    with three.database.server.connect() as conn:
        conn.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            assert [_encrypt(node, token, "cut") for node in three.nodes] == [503, 503, 503]
            until(
                lambda: {node.get("/v1/health/ready").json()["status"] for node in three.nodes} == {"lease"},
                "nodes without a database say that they are ready",
                seconds=3,
            )
            assert [node.get("/v1/health/live").status_code for node in three.nodes] == [200, 200, 200]
        finally:
            conn.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
    for node in three.nodes:
        until(lambda node=node: is_ready(node), "a node does not come back")
        until(lambda node=node: _encrypt(node, token, "cut") == 200, "a node does not serve again")
    answer = one.post("/v1/keys/cut/suspend", "custodian", {"reason": "x"})
    assert answer.status_code == 200, answer.text
    assert [_encrypt(node, token, "cut") for node in three.nodes] == [409, 409, 409]


@pytest.mark.requirement("R32")
def test_a_draining_node_serves_on_and_one_that_leaves_is_not_waited_for(three: Several, tmp_path: Path) -> None:
    one, two, last = three.nodes
    one.create_key("drained")
    token = one.token(["encrypt"], ["drained"])
    answer = last.post("/v1/node-drain", "operator", {"draining": True})
    assert answer.status_code == 200, answer.text
    assert last.get("/v1/health/ready").json() == {"status": "draining"}
    assert last.get("/v1/health/live").status_code == 200
    assert _encrypt(last, token, "drained") == 200
    until(lambda: "draining" in [row["status"] for row in three.rows()], "nobody hears of it")
    last.process.send_signal(signal.SIGTERM)
    assert last.process.wait(20) == 0
    assert [row["status"] for row in three.rows() if row["address"].endswith(f":{last.port}")][-1] == "left"
    began = time.monotonic()
    assert two.post("/v1/keys/drained/suspend", "custodian", {"reason": "x"}).status_code == 200
    assert time.monotonic() - began < 1.0
    last.restart()
    until(lambda: is_ready(last), "the node does not come back")
    rows = three.rows()
    assert {row["status"] for row in rows} >= {"serving", "left"}
    assert all(row["behind"] == 0 and row["lease_seconds"] > 0 for row in rows if row["status"] == "serving")


@pytest.mark.requirement("R22")
def test_whoever_has_the_servers_account_can_be_anybody_and_leaves_their_act_in_the_record(three: Several) -> None:
    """What docs/threat-model.md says of them: a forged credential works, is seen to be forged, and changes no event."""
    one = three.nodes[0]
    until(lambda: is_ready(one), "a node is not ready")
    one.create_key("forged")
    real = one.get("/v1/whoami", one.token(["encrypt"], ["forged"])).json()["credential"]
    token, forged = "kct_" + "A" * 43, "crd_" + "a" * 26
    with three.database.connect("keyclave_app") as conn:
        conn.execute(
            "INSERT INTO credentials SELECT %s, tenant, principal, %s, scope, created_at, created_by, expires_at, NULL "
            "FROM credentials WHERE id = %s",
            (forged, hashlib.sha256(token.encode()).digest(), real),
        )
        for act in (
            "UPDATE journal SET count = 1",
            "DELETE FROM segments",
            "TRUNCATE log_tiles",
            "UPDATE checkpoints SET size = 1",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(act)
    assert _encrypt(three.nodes[1], token, "forged") == 200

    def recorded() -> tuple[list[str], bool, bool]:
        """How the forged one was used; whether the record says that the real one was issued, and the forged one."""
        events = one.get("/v1/audit/events?limit=1000", "auditor").json()["events"]
        issued = [str(event) for event in events if event["op"] == "credential-issue"]
        used = [event["outcome"] for event in events if event.get("credential") == forged]
        return used, any(real in event for event in issued), any(forged in event for event in issued)

    until(lambda: recorded() == (["ok"], True, False), "its use is not in the record, or not seen to be forged")

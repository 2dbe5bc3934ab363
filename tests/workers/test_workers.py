"""Two workers serve one home: what one of them takes away, the other has no more, and together they are one server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live, launch
from tests.policies import apply_request
from tests.waiting import until
from tests.workers.crowd import PLAIN, Crowd, Pinned, Seen, events, pinned, workers_of

pytestmark = pytest.mark.file_store(
    "several workers of one file; those of PostgreSQL are nodes each, in test_on_postgresql.py and tests/cluster"
)

HIDE = """
@id("closed")
forbid (principal, action, resource in Tag::"study=closed");
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = launch(tmp_path_factory.mktemp("two"), "--threshold", "2", "--custodians", "3", workers=2)
    yield live
    live.stop()


def used_after(seen: list[Seen], moment: float) -> list[Seen]:
    """Return the uses that were sent after a moment and succeeded."""
    return [one for one in seen if one.sent > moment and one.status == 200]


def judge_by_the_log(live: Live, taken_away: str, **what: str) -> None:
    """No use of `what` stands in the log behind the event of what took it away."""
    found = events(live.home)
    at = next(number for number, event in enumerate(found) if event.id == taken_away)
    late = [
        event.id
        for event in found[at + 1 :]
        if event.op == "encrypt" and event.outcome == "ok" and all(getattr(event, name) == value for name, value in what.items())
    ]
    assert not late
    assert [event.id for event in found[:at] if event.op == "encrypt" and event.outcome == "ok"]


@pytest.mark.requirement("P4", "R24", "R32")
@pytest.mark.parametrize("round_", range(3))
def test_a_credential_revoked_at_one_worker_opens_nothing_at_any(two: Live, round_: int) -> None:
    two.create_key(f"revoked-{round_}")
    token = two.token(["encrypt"], ["*"])
    whoami = two.get("/v1/whoami", token).json()
    with Crowd(two, f"/v1/keys/revoked-{round_}/encrypt", token) as crowd:
        crowd.more(400)
        answer = two.post(f"/v1/credentials/{whoami['credential']}/revoke", "operator", {"reason": "lost"})
        assert answer.status_code == 200, answer.text
        moment = max(one.answered for one in crowd.seen)
        crowd.more(200)
    assert not used_after(crowd.seen, moment)
    assert {one.status for one in crowd.seen} == {200, 401}
    judge_by_the_log(two, answer.json()["event"], credential=whoami["credential"])


@pytest.mark.requirement("P4", "R24", "R32")
def test_a_key_suspended_and_resumed_a_hundred_times_is_so_for_every_worker(two: Live) -> None:
    key = two.create_key("blinking")
    token = two.token(["encrypt"], ["blinking"])
    with pinned(two, 16) as connections:
        for turn in range(100):
            for move, expected in (("suspend", 409), ("resume", 200)):
                answer = two.post(f"/v1/keys/blinking/{move}", "operator", {"reason": "a test"})
                assert answer.status_code == 200, answer.text
                for one in (connections[turn % 16], connections[(turn + 5) % 16], connections[(turn + 11) % 16]):
                    status, said = one.post("/v1/keys/blinking/encrypt", token, PLAIN)
                    assert status == expected, (turn, move, said)
    state = "ok"
    for event in events(two.home):
        if event.key == key["id"]:
            state = {"suspend": "wrong_state", "resume": "ok"}.get(event.op, state)
            assert event.op != "encrypt" or event.outcome == state


@pytest.mark.requirement("R13", "R24")
def test_a_policy_applied_at_one_worker_is_in_force_at_all(two: Live) -> None:
    two.create_key("hidden-1", tags={"study": "closed"})
    token = two.token(["encrypt"], ["*"])
    files = dict(two.get("/v1/policy", "custodian").json()["files"])
    request = apply_request(two, {**files, "hidden.cedar": HIDE}, "custodian")
    with Crowd(two, "/v1/keys/hidden-1/encrypt", token) as crowd:
        crowd.more(200)
        answer = two.post("/v1/policy/apply", "custodian", request)
        assert answer.status_code == 200, answer.text
        moment = max(one.answered for one in crowd.seen)
        crowd.more(200)
    assert not used_after(crowd.seen, moment)
    assert {one.status for one in crowd.seen} == {200, 404}
    judge_by_the_log(two, answer.json()["event"])


@pytest.mark.requirement("R5")
def test_a_key_that_a_worker_looked_for_in_vain_is_found_once_another_has_made_it(two: Live) -> None:
    token = two.token(["encrypt"], ["*"])
    with pinned(two, 16) as connections:
        for turn in range(20):
            for one in connections:
                assert one.post(f"/v1/keys/new-{turn}/encrypt", token, PLAIN)[0] == 404
            two.create_key(f"new-{turn}")
            for one in connections[turn % 8 :: 4]:
                assert one.post(f"/v1/keys/new-{turn}/encrypt", token, PLAIN)[0] == 200


@pytest.mark.requirement("R5")
def test_a_tenant_made_at_one_worker_can_use_keys_at_all(two: Live) -> None:
    made = two.post("/v1/tenants", "custodian", {"name": "branch"})
    assert made.status_code == 201, made.text
    people = {one["role"]: one["token"] for one in made.json()["credentials"]}
    with pinned(two, 16) as connections:
        for number, one in enumerate(connections):
            status, said = one.post("/v1/keys", people["custodian"], {"name": f"k-{number}", "owner": "o"})
            assert status == 201, said


@pytest.mark.requirement("R21", "R40")
def test_an_idempotency_key_is_one_for_all_workers(two: Live) -> None:
    custodian = two.tokens["custodian"]
    with pinned(two, 16) as connections:
        for turn in range(10):
            body, again = {"name": f"once-{turn}", "owner": "o"}, {"idempotency-key": f"turn-{turn}"}
            answers = [one.post("/v1/keys", custodian, body, **again) for one in connections]
            assert [status for status, _ in answers] == [201] * 16
            assert len({answer["id"] for _, answer in answers}) == 1


@pytest.mark.requirement("R5", "P4")
def test_sealing_one_seals_all_and_shares_meet_wherever_they_are_brought(two: Live) -> None:
    two.create_key("sealed")
    token = two.token(["encrypt"], ["sealed"])
    with pinned(two, 16) as connections:
        for turn in range(6):
            with Crowd(two, "/v1/keys/sealed/encrypt", token) as crowd:
                crowd.more(100)
                status, said = connections[turn].post("/v1/seal", two.tokens["operator"])
                assert (status, said["sealed"]) == (200, True)
                moment = max(one.answered for one in crowd.seen)
                crowd.more(50)
            assert not used_after(crowd.seen, moment)
            assert {one.status for one in crowd.seen} == {200, 503}
            judge_by_the_log(two, said["event"]) if turn == 5 else None
            assert all(one.get("/v1/status")["sealed"] for one in connections)
            unseal_round_robin(two, connections[turn:])
            assert not any(one.get("/v1/status")["sealed"] for one in connections)
            assert {one.post("/v1/keys/sealed/encrypt", token, PLAIN)[0] for one in connections} == {200}


def unseal_round_robin(live: Live, connections: list[Any]) -> None:
    """Give each share on another connection."""
    for number, share in enumerate(live.shares[:2]):
        status, said = connections[number].post("/v1/unseal", body={"share": share})
        assert status == 200, said
        assert (said["sealed"], said["received"]) == ((True, 1), (False, 0))[number]
        if said["sealed"]:
            until(
                lambda: {one.get("/v1/status")["unseal"]["received"] for one in connections} == {1},
                "a worker has not heard of it",
            )


@pytest.mark.requirement("R5")
def test_shares_that_fail_slow_down_the_next_one_at_every_worker(two: Live) -> None:
    two.post("/v1/seal", "operator")
    with pinned(two, 16) as connections:
        statuses = [one.post("/v1/unseal", body={"share": two.shares[0][:-4] + "aaaa"})[0] for one in connections]
        assert statuses[0] == 400
        assert set(statuses[1:]) == {429}
        assert give(connections[3], two.shares[0]) == 200
        assert connections[4].post("/v1/unseal", body={"share": two.shares[0]})[0] == 400  # given already
        until(lambda: {one.get("/v1/status")["unseal"]["received"] for one in connections} == {1}, "a worker has not heard of it")
        assert give(connections[5], two.shares[1]) == 200
        assert connections[6].post("/v1/unseal", body={"share": two.shares[1]})[0] == 409
        assert not any(one.get("/v1/status")["sealed"] for one in connections)


def give(connection: Pinned, share: str) -> int:
    """Give a share until it is looked at."""
    while (answer := connection.post("/v1/unseal", body={"share": share}))[0] == 429:
        pass
    return answer[0]


@pytest.mark.requirement("R7", "P2")
def test_both_workers_serve_one_log_that_verifies(two: Live, tmp_path: Path) -> None:
    from tests.protocols.test_record import export, verify

    token = two.token(["encrypt"], ["*"])
    two.create_key("logged")
    with Crowd(two, "/v1/keys/logged/encrypt", token) as crowd:
        crowd.more(1000)
    assert {one.status for one in crowd.seen} == {200}
    answered = [one.event for one in crowd.seen]
    assert len(set(answered)) == len(answered)
    found = events(two.home)
    assert set(answered) <= {event.id for event in found}
    assert [int(event.id.rpartition("-")[2]) for event in found] == list(range(len(found)))
    with pinned(two, 4):
        for event in answered[-8:]:
            assert two.get(f"/v1/audit/receipts/{event}", "auditor").status_code == 200
    log = export(two, two.get("/v1/log/checkpoint").text, tmp_path / "log")
    trusted = tmp_path / "vkeys"
    trusted.write_text("\n".join(two.get("/v1/log/keys").json()["vkeys"]))
    good = verify("log", log, "--vkey-file", trusted, "--strict", "--json")
    assert good.returncode == 0, good.stdout + good.stderr


@pytest.mark.requirement("R5")
def test_nothing_secret_stands_on_a_command_line_or_in_an_environment(two: Live) -> None:
    secrets = [*two.shares, *two.tokens.values()]
    pids = [two.process.pid, *workers_of(two)]
    assert len(pids) == 3
    for pid in pids:
        told = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert not any(secret.encode() in told for secret in secrets)


@pytest.mark.requirement("R32")
def test_a_server_that_is_drained_says_so_whichever_worker_is_asked(two: Live) -> None:
    with pinned(two, 16) as connections:

        def said() -> set[str]:
            return {one.get("/v1/health/ready")["status"] for one in connections}

        for draining, expected in ((True, {"draining"}), (False, {"ready"})):
            answer = connections[0].post("/v1/node-drain", two.tokens["operator"], {"draining": draining})
            assert answer[0] == 200, answer
            until(lambda expected=expected: said() == expected, "a worker has not heard of it")

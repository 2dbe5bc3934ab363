"""Workers that die, freeze or never start: nothing that was acknowledged is lost, and the server mends itself."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live, free_port, init, launch, start
from tests.workers.crowd import PLAIN, WAIT_SECONDS, Crowd, Pinned, events, pinned, wait_for, workers_of

pytestmark = pytest.mark.file_store(
    "several workers of one file; those of PostgreSQL are nodes each, in test_on_postgresql.py and tests/cluster"
)


@contextlib.contextmanager
def served(folder: Path, *arguments: str) -> Iterator[Live]:
    live = launch(folder, *arguments, workers=2)
    try:
        wait_for(lambda: said(live).count("Started server process") == 2, "both workers to serve")
        yield live
    finally:
        live.stop()


def said(live: Live) -> str:
    """Return what the server's processes wrote."""
    return (live.home.parent / f"{live.home.name}.server.log").read_text()


@pytest.mark.requirement("P1", "R5", "R32", "R40")
def test_a_worker_killed_under_load_loses_nothing_acknowledged_and_is_replaced_unsealed(tmp_path: Path) -> None:
    with served(tmp_path) as live:
        live.create_key("k")
        token = live.token(["encrypt"], ["k"])
        with Crowd(live, "/v1/keys/k/encrypt", token) as crowd:
            for turn in range(6):
                crowd.more(100)
                before = workers_of(live)
                os.kill(before[turn % len(before)], signal.SIGKILL)
                crowd.more(100)
                wait_for(lambda turn=turn: said(live).count("Started server process") == 3 + turn, "a new worker to serve")
        answered = [one.event for one in crowd.seen if one.status == 200]
        assert {one.status for one in crowd.seen} <= {200, 0}  # nobody ever met a sealed worker
        kept = {event.id for event in events(live.home) if event.op == "encrypt" and event.outcome == "ok"}
        assert set(answered) <= kept
        assert len(set(answered)) == len(answered)
        broken = sum(1 for one in crowd.seen if one.status == 0)
        assert len(kept) <= len(answered) + broken
        wait_for(lambda: said(live).count("Started server process") == 8, "both workers to serve")
        with pinned(live, 16) as connections:
            assert {one.post("/v1/keys/k/encrypt", token, PLAIN)[0] for one in connections} == {200}


@pytest.mark.requirement("P4", "R24", "R32")
def test_a_frozen_worker_holds_up_no_revocation_uses_nothing_after_it_and_is_replaced(tmp_path: Path) -> None:
    with served(tmp_path) as live:
        live.create_key("k")
        token = live.token(["encrypt"], ["k"])
        credential = live.get("/v1/whoami", token).json()["credential"]
        with pinned(live, 16) as connections, Crowd(live, "/v1/keys/k/encrypt", token) as crowd:
            crowd.more(200)
            frozen = workers_of(live)
            os.kill(frozen[0], signal.SIGSTOP)
            answers: list[dict[str, Any]] = []
            asking = [
                threading.Thread(target=lambda one=one: answers.append(revoke(live, one, credential))) for one in connections
            ]
            for one in asking:  # those that lie with the frozen worker break when it is ended
                one.start()
            wait_for(lambda: any(answers), "an answer")
            revoked = next(answer for answer in answers if answer)
            moment = time.monotonic()
            crowd.more(100)
            wait_for(lambda: frozen[0] not in workers_of(live) and len(workers_of(live)) == 2, "a new worker")
            crowd.more(100)
        assert not [one for one in crowd.seen if one.sent > moment and one.status == 200]
        found = events(live.home)
        at = next(number for number, event in enumerate(found) if event.id == revoked["event"])
        assert not [event for event in found[at:] if event.op == "encrypt" and event.outcome == "ok"]
        assert {one.event for one in crowd.seen if one.status == 200} <= {event.id for event in found}


def revoke(live: Live, connection: Pinned, credential: str) -> dict[str, Any]:
    """Revoke, over a connection; return the answer, or nothing where it broke or somebody else was first."""
    try:
        status, answer = connection.post(f"/v1/credentials/{credential}/revoke", live.tokens["operator"], {"reason": "lost"})
    except (OSError, http.client.HTTPException):
        return {}
    return answer if status == 200 else {}


@pytest.mark.requirement("P4", "R5")
def test_sealing_ends_a_worker_that_is_frozen_before_it_is_answered(tmp_path: Path) -> None:
    with served(tmp_path) as live, pinned(live, 16) as connections:
        before = workers_of(live)
        os.kill(before[0], signal.SIGSTOP)
        answers = []
        asking = [threading.Thread(target=lambda one=one: answers.append(seal(live, one))) for one in connections]
        for one in asking:  # those that lie with the frozen worker break when it is ended
            one.start()
        wait_for(lambda: 200 in answers, "an answer")
        assert before[0] not in workers_of(live)
        for one in asking:
            one.join(WAIT_SECONDS)
        assert set(answers) <= {200, 503, 0}  # a second one finds it sealed
        wait_for(lambda: len(workers_of(live)) == 2, "a new worker")
        with pinned(live, 16) as others:
            assert all(one.get("/v1/status")["sealed"] for one in others)
            live.unseal()
            assert not any(one.get("/v1/status")["sealed"] for one in others)


def seal(live: Live, connection: Pinned) -> int:
    """Seal, over a connection; return the status, or 0 where it broke."""
    try:
        return connection.post("/v1/seal", live.tokens["operator"])[0]
    except (OSError, http.client.HTTPException):
        return 0


@pytest.mark.requirement("R32")
def test_when_every_worker_dies_at_once_the_next_ones_are_sealed_and_can_be_unsealed(tmp_path: Path) -> None:
    with served(tmp_path) as live:
        before = workers_of(live)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(workers_of(live)) == 2 and not set(before) & set(workers_of(live)), "new workers")
        wait_for(lambda: said(live).count("Started server process") == 4, "both workers to serve")
        with pinned(live, 16) as connections:
            assert {one.get("/v1/status").get("why_sealed") for one in connections} == {"lost"}
            assert "no worker is left that holds the root key" in said(live)
            live.unseal()
            assert {one.get("/v1/status").get("why_sealed") for one in connections} == {None}
            assert seal(live, connections[0]) == 200
            assert {one.get("/v1/status")["why_sealed"] for one in connections} == {"sealed"}


@pytest.mark.requirement("R32")
def test_workers_go_with_their_supervisor_and_the_next_server_starts_at_once(tmp_path: Path) -> None:
    with served(tmp_path) as live:
        before = workers_of(live)
        live.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), "the workers to end")
        live.restart()
        assert live.get("/v1/health").json() == {"status": "ok"}
        os.kill(live.process.pid, signal.SIGTERM)
        assert live.process.wait(WAIT_SECONDS) == 0
        assert "Traceback" not in said(live)


@pytest.mark.requirement("R32")
def test_a_second_server_of_the_home_and_one_of_another_home_on_the_port_are_refused(tmp_path: Path) -> None:
    with served(tmp_path) as live:
        second = start(live.home, free_port(), 2)
        assert second.wait(WAIT_SECONDS) == 1
        assert f"a server serves {live.home}" in said(live)
        other = tmp_path / "other"
        init(other, live.port)
        stranger = start(other, live.port, 2)
        assert stranger.wait(WAIT_SECONDS) == 1
        assert "cannot listen on" in (tmp_path / "other.server.log").read_text()


@pytest.mark.requirement("R32")
def test_a_worker_that_cannot_start_ends_the_server_with_its_reason(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    init(home, port)
    (home / "keyclave.db").unlink()
    began = time.monotonic()
    process: subprocess.Popen[bytes] = start(home, port, 2)
    assert process.wait(WAIT_SECONDS) == 1
    log = (tmp_path / "home.server.log").read_text()
    assert "there is no database at" in log
    assert "ended 3 times before it could serve" in log
    assert time.monotonic() - began < WAIT_SECONDS


@pytest.mark.requirement("R5")
def test_a_development_root_does_not_open_itself_while_the_others_are_sealed(tmp_path: Path) -> None:
    with served(tmp_path, "--development") as live:
        with pinned(live, 16) as connections:
            assert not any(one.get("/v1/status")["sealed"] for one in connections)
        assert live.post("/v1/seal", "operator").json()["sealed"] is True
        before = workers_of(live)
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: len(workers_of(live)) == 2 and before[0] not in workers_of(live), "a new worker")
        wait_for(lambda: said(live).count("Started server process") == 3, "it to serve")
        with pinned(live, 16) as connections:
            assert all(one.get("/v1/status")["sealed"] for one in connections)

"""The supervisor's own decisions, with processes that do nothing in the workers' place."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyclave.app.config import Listen
from keyclave.app.supervise import Place, Supervisor, Worker
from tests.live import free_port

SLEEPS, ENDS = ["/bin/sh", "-c", "exec sleep 60"], ["/bin/sh", "-c", "exit 1"]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Supervisor, Worker, Worker]]:
    """A supervisor with two workers, the first of which serves and whose next ones end before they could."""
    place = Place(Listen(host="127.0.0.1", port=free_port()))
    one, other = (Worker(number, [place]) for number in range(2))
    with (tmp_path / "lock").open("wb") as lock:
        made = Supervisor(ENDS, [one, other], lock)
        one.start(SLEEPS, 2, lock, first=True)
        one.ready = one.open = one.serving = True
        yield made, one, other
        for worker in (one, other):
            for listening in worker.sockets:
                listening.close()
            if worker.process is not None:
                worker.process.kill()
                worker.process.wait()


def fail(supervisor: Supervisor, worker: Worker) -> None:
    """Let a worker's process end before it could serve."""
    supervisor._start(worker)
    assert worker.process is not None
    supervisor._ended(worker, worker.process.wait(), 0.0)


@pytest.mark.requirement("R32")
def test_a_worker_that_cannot_start_ends_no_server_whose_others_serve(
    two: tuple[Supervisor, Worker, Worker], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor, one, other = two
    for _ in range(12):
        fail(supervisor, other)
        assert not supervisor._ending
    assert other.delay == 10
    assert "the others serve on" in caplog.text
    one.serving = False
    fail(supervisor, other)
    assert supervisor._ending


@pytest.mark.requirement("R32")
def test_nobody_waits_at_the_door_of_a_worker_that_cannot_start(two: tuple[Supervisor, Worker, Worker]) -> None:
    supervisor, _, other = two
    other.sockets[0].listen()
    address = other.sockets[0].getsockname()
    with socket.create_connection(address) as waiting:
        waiting.settimeout(10)
        for _ in range(2):
            fail(supervisor, other)
            socket.create_connection(address).close()  # a short while it may wait: the next one may start
        fail(supervisor, other)
        with pytest.raises(ConnectionError):
            waiting.recv(1)
        with pytest.raises(ConnectionError):
            socket.create_connection(address)
        other.sockets[0].listen()  # as the next worker would
        socket.create_connection(address).close()

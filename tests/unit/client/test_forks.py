"""Processes that are forked with a client in them, and connections that are closed while somebody uses them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from keyclave_client import CacheLimits, Client
from keyclave_client.canonical import canonical_map
from keyclave_client.local.cache import DataKeyCache
from tests.unit.client.contract_server import Asked, ContractServer, Said, serve
from tests.unit.client.standin import LocalKeys

CONTEXT = {"patient": "p-17"}
ENCODED = canonical_map(CONTEXT)
SECONDS = 20


@pytest.fixture
def server() -> Iterator[ContractServer]:
    with serve(lambda asked: Said(body={"status": "ok"})) as running:
        yield running


def in_child(work: Callable[[], object]) -> bytes:
    """Fork, and return what `work` returned there, as text; a child that does not end in time is killed, and nothing returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    timer = threading.Timer(SECONDS, os.kill, (child, 9))
    timer.start()
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    timer.cancel()
    return said


def hold(lock: threading.Lock) -> Callable[[], None]:
    """Have another thread take the lock; return what lets it go."""
    taken, let_go = threading.Event(), threading.Event()

    def other() -> None:
        with lock:
            taken.set()
            let_go.wait()

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait()

    def end() -> None:
        let_go.set()
        thread.join()

    return end


# ---- forked ---------------------------------------------------------------------------------------------------------------
def test_a_child_opens_connections_of_its_own_and_leaves_its_parents_alone(server: ContractServer) -> None:
    """On one connection each would read the other's answers: one patient's data key in the place of another's."""
    with Client(server.url, "t") as client:
        assert client.health() == "ok"
        assert server.connections == 1
        for number in range(1, 4):
            assert in_child(client.health) == b"'ok'"
            assert server.connections == 1 + number
            assert client.health() == "ok"
            assert server.connections == 1 + number  # the parent's is open still, and in step
        assert in_child(client.close) == b"None"
        assert client.health() == "ok"
        assert server.connections == 4


def test_a_child_waits_for_no_thread_that_it_does_not_have(server: ContractServer) -> None:
    with Client(server.url, "t") as client:
        client.health()
        cache = DataKeyCache(LocalKeys(), CacheLimits())
        cache.fresh(ENCODED, CONTEXT, 1)
        ends = [hold(client._transport._lock), hold(cache._protecting._lock)]
        try:
            assert in_child(client.health) == b"'ok'"
            assert in_child(lambda: len(cache.fresh(ENCODED, CONTEXT, 1).wrapped)) != b""
        finally:
            for end in ends:
                end()


def test_a_child_asks_for_data_keys_of_its_own(server: ContractServer) -> None:
    """What the parent holds is counted there: used in both, a key would protect twice as many messages as it may."""
    cache = DataKeyCache(LocalKeys(), CacheLimits(max_messages=3))
    first = cache.fresh(ENCODED, CONTEXT, 1).wrapped
    assert in_child(lambda: cache.fresh(ENCODED, CONTEXT, 1).wrapped == first) == b"False"
    assert cache.fresh(ENCODED, CONTEXT, 1).wrapped == first


def test_a_child_that_is_forked_while_a_key_is_asked_for_asks_itself() -> None:
    source = LocalKeys()
    cache = DataKeyCache(source, CacheLimits())
    asked, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        go_on.wait()

    source.before = wait
    thread = threading.Thread(target=cache.fresh, args=(ENCODED, CONTEXT, 1))
    thread.start()
    asked.wait()
    source.before = lambda: None
    try:
        assert in_child(lambda: len(cache.fresh(ENCODED, CONTEXT, 1).wrapped)) != b""
    finally:
        go_on.set()
        thread.join()


# ---- closed in use --------------------------------------------------------------------------------------------------------
def test_closing_takes_nobodys_answer_away(server: ContractServer) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def slowly(_asked: Asked) -> Said:
        arrived.set()
        go_on.wait(SECONDS)
        return Said(body={"status": "ok"})

    server.script = slowly
    client = Client(server.url, "t")
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(client.health()))
    thread.start()
    assert arrived.wait(SECONDS)
    line = client._transport._line
    assert line is not None
    client.close()
    assert not line.http.is_closed
    go_on.set()
    thread.join(SECONDS)
    assert said == ["ok"]
    assert line.http.is_closed  # by the last one who used it
    assert client.health() == "ok"
    assert server.connections == 2
    client.close()


def test_many_threads_are_answered_while_another_closes_again_and_again(server: ContractServer) -> None:
    client = Client(server.url, "t")
    stop = time.monotonic() + 2
    said: list[str] = []

    def ask() -> None:
        while time.monotonic() < stop:
            said.append(client.health())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    while time.monotonic() < stop:
        client.close()
    for thread in threads:
        thread.join()
    assert set(said) == {"ok"}
    client.close()

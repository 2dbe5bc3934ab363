"""Limits as policy sets them: rates of principals, keys and tenants, unanswered requests, dead tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyclave.core.clock import MICROSECONDS
from keyclave.identity.peer import Peer
from keyclave.protocols.rest.gateway import read_head
from tests.protocols.clocked import ENCRYPT, PLAIN, House, clocked
from tests.protocols.inside import BY_PATH


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


def limited(what: str) -> Callable[[str], str]:
    name = what.split(" ", maxsplit=1)[0]
    return lambda text: "\n".join(what if line.startswith(f"{name} = {{") else line for line in text.splitlines())


@pytest.mark.requirement("R29")
def test_a_principal_beyond_their_rate_waits_and_nobody_else_does(house: House) -> None:
    house.give(ttl_seconds=6000)
    house.rules(limited("principal = { per_second = 2, burst = 4 }"))
    assert [house.use() for _ in range(6)] == [200] * 4 + [429] * 2
    assert house.use(house.writer) == 200
    house.hands.at += MICROSECONDS
    assert [house.use() for _ in range(3)] == [200, 200, 429]
    batch = {"items": [{"plaintext": PLAIN}] * 3}
    house.hands.at += 2 * MICROSECONDS
    assert house.ask("POST", ENCRYPT + "/batch", house.app, batch, ref="ward")[0] == 200
    assert [house.use() for _ in range(2)] == [200, 429]
    status, answer = house.ask("POST", ENCRYPT + "/batch", house.app, {"items": [{"plaintext": PLAIN}] * 5}, ref="ward")
    assert (status, answer["code"]) == (429, "limit_reached")
    assert "batch" in answer["detail"]


@pytest.mark.requirement("R29")
def test_who_is_too_fast_is_told_when_to_come_back(house: House) -> None:
    house.rules(limited("principal = { per_second = 0.1, burst = 1 }"))
    assert house.use(house.writer) == 200
    told: list[tuple[int, dict[bytes, bytes]]] = []
    head = read_head([(b"authorization", b"Bearer " + house.writer.encode())], b"")
    house.server.gateway.submit(
        BY_PATH["POST", ENCRYPT], "ward", head, json.dumps({"plaintext": PLAIN}).encode(), Peer("test"),
        lambda status, _kind, _text, more: told.append((status, dict(more))),
    )  # fmt: skip
    house.server.store.flush()
    assert [(status, more[b"retry-after"]) for status, more in told] == [(429, b"10")]
    house.hands.at += 10 * MICROSECONDS
    assert house.use(house.writer) == 200


@pytest.mark.requirement("R29")
def test_unanswered_requests_are_bounded_and_counted_down(house: House) -> None:
    house.rules(limited("principal = { per_second = 0, burst = 0, concurrent = 3 }"))
    told: list[int] = []
    for _ in range(5):
        head = read_head([(b"authorization", b"Bearer " + house.writer.encode())], b"")
        house.server.gateway.submit(
            BY_PATH["POST", ENCRYPT], "ward", head, json.dumps({"plaintext": PLAIN}).encode(), Peer("test"),
            lambda status, *_: told.append(status),
        )  # fmt: skip
    house.server.store.flush()
    assert sorted(told) == [200, 200, 200, 429, 429]
    assert [house.use(house.writer) for _ in range(3)] == [200] * 3  # all of them were answered


@pytest.mark.requirement("R29")
def test_who_may_not_use_a_key_does_not_use_up_its_rate(house: House) -> None:
    house.rules(limited("key = { per_second = 1, burst = 2 }"))
    assert [house.use() for _ in range(10)] == [404] * 10  # no grant
    assert [house.use(house.writer) for _ in range(3)] == [200, 200, 429]
    house.rules(limited("key = { per_second = 0, burst = 0 }"))
    house.rules(limited("tenant = { per_second = 1, burst = 3 }"))
    assert [house.use() for _ in range(10)] == [404] * 10
    assert [house.use(house.writer) for _ in range(5)] == [200, 200, 200, 429, 429]


@pytest.mark.requirement("R29")
def test_refusals_for_speed_are_events_too(house: House) -> None:
    house.rules(limited("principal = { per_second = 1, burst = 1 }"))
    assert [house.use(house.writer) for _ in range(3)] == [200, 429, 429]
    assert [e["outcome"] for e in house.events(actor="writer", op="encrypt")] == ["ok", "limit_reached", "limit_reached"]


@pytest.mark.requirement("R30")
def test_dead_tokens_are_slowed_down_and_live_ones_never(house: House) -> None:
    house.give(ttl_seconds=6000)
    answers = [house.ask("GET", "/v1/whoami", "kct_" + "x" * 43)[0] for _ in range(2100)]
    assert answers[:1999] == [401] * 1999
    assert set(answers[2000:]) == {429}
    assert house.use() == 200  # the same address
    house.server.desk.callers.forget("", "")
    assert house.ask("GET", "/v1/whoami", house.issued("fresh", "auditor"))[0] == 200
    house.hands.at += 60 * MICROSECONDS
    assert house.ask("GET", "/v1/whoami", "kct_" + "x" * 43)[0] == 401

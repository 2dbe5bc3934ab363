"""Batches of slow work, item by item on worker threads: what is taken away in the middle of one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.protocols.clocked import House, clocked

PAIRS = "/v1/keys/{key}/data-key-pair/batch"
ITEMS = {"items": [{"spec": "ed25519"}] * 6}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


class Maker:
    """Counts the pairs that are made, and has something happen while the second one is."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self.meanwhile: Callable[[], Any] = lambda: None
        generate = house.server.desk.module.generate_pair

        def counted(spec: Any) -> Any:
            self.made += 1
            if self.made == 2:
                self.meanwhile()
            return generate(spec)

        monkeypatch.setattr(house.server.desk.module, "generate_pair", counted)


@pytest.fixture
def maker(house: House, monkeypatch: pytest.MonkeyPatch) -> Maker:
    return Maker(house, monkeypatch)


def pairs(house: House, app: str) -> tuple[int, Any]:
    status, text = house.server.ask("POST", PAIRS, app, json.dumps(ITEMS).encode(), ref="ward")
    return status, json.loads(text)


def issued(house: House) -> str:
    return house.issued("maker", "application", {"operations": ["data-key-pair"], "keys": ["ward"]})


def test_a_batch_is_answered_as_a_whole(house: House, maker: Maker) -> None:
    status, answer = pairs(house, issued(house))
    assert (status, len(answer["results"]), maker.made) == (200, 6, 6)
    event = house.events()[-1]
    assert (event["count"], event["version"], event["detail"]) == (6, 1, {"spec": "ed25519"})


@pytest.mark.requirement("R24", "R32")
def test_sealing_ends_it_with_the_item_at_hand(house: House, maker: Maker) -> None:
    app = issued(house)
    maker.meanwhile = lambda: house.ask("POST", "/v1/seal", "operator", expect=200)
    status, answer = pairs(house, app)
    assert (status, answer["code"], "results" in answer) == (503, "sealed", False)
    assert maker.made == 2
    assert house.events()[-1]["outcome"] == "sealed"


@pytest.mark.requirement("R24", "R32")
def test_a_revoked_credential_has_nothing_more_made(house: House, maker: Maker) -> None:
    app = issued(house)
    credential = json.loads(house.server.ask("GET", "/v1/whoami", app)[1])["credential"]
    path = "/v1/credentials/{credential}/revoke"
    maker.meanwhile = lambda: house.ask("POST", path, "operator", {"reason": "lost"}, ref=credential, expect=200)
    status, answer = pairs(house, app)
    assert (status, "results" in answer, maker.made) == (401, False, 2)


@pytest.mark.requirement("R24")
def test_a_key_suspended_in_the_middle_gives_nothing(house: House, maker: Maker) -> None:
    app = issued(house)
    maker.meanwhile = lambda: house.ask("POST", "/v1/keys/{key}/suspend", "operator", {"reason": "r"}, ref="ward", expect=200)
    status, answer = pairs(house, app)
    assert (status, {result["error"]["code"] for result in answer["results"]}) == (200, {"wrong_state"})
    event = house.events()[-1]
    assert (event["failed"], event["detail"], "version" in event) == (6, {"wrong_state": 6}, False)

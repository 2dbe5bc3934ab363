"""Between being judged and being done: a policy that comes into force, a memory that is full, an answer that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave.core.clock import MICROSECONDS
from keyclave.identity.peer import Peer
from keyclave.operations import callers
from keyclave.operations.people.sessions import open_session
from keyclave.protocols.rest.gateway import Head
from tests.protocols.clocked import HOUR, House, clocked
from tests.protocols.inside import BY_PATH


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


class Later:
    """Stands for worker threads that are busy: does what is handed over when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def submit(self, fn: Callable[..., None], *args: Any) -> None:
        self.waiting.append((fn, args))

    def go_on(self) -> None:
        while self.waiting:
            fn, args = self.waiting.pop(0)
            fn(*args)


@pytest.mark.requirement("R10", "R15")
@pytest.mark.parametrize("kind", ["a change", "a use"])
def test_a_policy_that_came_into_force_meanwhile_holds_what_is_still_being_worked_out(house: House, kind: str) -> None:
    later = house.server.desk.workers = Later()  # type: ignore[assignment]
    answers: list[tuple[int, Any]] = []
    head = Head()
    head.authorization = b"Bearer " + house.server.tokens["custodian"].encode()
    method, path, action = {
        "a change": ("POST", "/v1/keys", "key-create"),
        "a use": ("GET", "/v1/people", "person-list"),
    }[kind]
    body: Any = (
        json.dumps({"name": "slow", "owner": "o", "spec": "rsa-3072", "purpose": "sign"}).encode() if method == "POST" else {}
    )
    house.server.gateway.submit(
        BY_PATH[method, path],
        "",
        head,
        body,
        Peer("test"),
        lambda status, _k, text, _m: answers.append((status, json.loads(text))),
    )
    assert later.waiting and not answers
    house.policy("stop.cedar", f'@id("stop")\nforbid(principal, action == Action::"{action}", resource);\n')
    later.go_on()
    house.server.store.flush()
    ((status, answer),) = answers
    assert (status, "stop" in answer["detail"]) == (403, True)


@pytest.mark.requirement("R15", "R30")
def test_when_the_memory_of_callers_is_full_nothing_of_them_is_forgotten_but_the_memory(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions go on being idle, and who is dropped while a request of theirs runs is looked at again."""
    monkeypatch.setattr(callers, "_CAPACITY", 3)
    desk = house.server.desk
    tokens = [
        house.server.store.write(
            lambda conn: open_session(
                desk, conn, house.tenant, "first-custodian", aal=2, how="passkey", at=house.hands.at, source="test"
            )
        )[1]
        for _ in range(4)
    ]
    held = [desk.callers.authenticate(token.encode()) for token in tokens]
    assert [held[0].live, held[-1].live] == [False, True]
    house.hands.at += HOUR
    for token in tokens:
        assert house.server.ask("GET", "/v1/whoami", token)[0] == 401


@pytest.mark.requirement("R30")
def test_a_kept_answer_with_a_secret_is_for_the_credential_that_asked(house: House) -> None:
    """Two credentials of one application: the narrow one, stolen, does not get what was renewed for the other."""
    wide = house.issued("twofold", "application", {"operations": ["encrypt"], "keys": ["*"]})
    narrow = house.issued("twofold", "application", {"operations": ["random"], "keys": ["none"]})
    house.hands.at += 60 * MICROSECONDS
    path = "/v1/credentials/renew"
    status, made = house.send(path, wide, "", {}, "192.0.2.1", **{"idempotency-key": "1"})
    assert status == 201
    assert house.send(path, wide, "", {}, "192.0.2.1", **{"idempotency-key": "1"})[1]["token"] == made["token"]
    status, answer = house.send(path, narrow, "", {}, "192.0.2.1", **{"idempotency-key": "1"})
    assert (status, answer.get("token")) == (422, None)


@pytest.mark.requirement("R15", "R30")
def test_a_kept_answer_is_for_whom_one_is_as_sure_of_as_of_who_asked(house: House) -> None:
    body = {"principal": "kept", "role": "application", "ttl_seconds": 600, "scope": {"operations": ["random"], "keys": ["k"]}}
    operator = house.server.tokens["operator"]
    assert house.send("/v1/credentials", operator, "", body, "192.0.2.1", **{"idempotency-key": "2"})[0] == 201
    assert house.send("/v1/credentials", operator, "", body, "192.0.2.1", **{"idempotency-key": "2"})[0] == 201
    house.rules(lambda text: text.replace("operator = 1", "operator = 2"))
    status, answer = house.send("/v1/credentials", operator, "", body, "192.0.2.1", **{"idempotency-key": "2"})
    assert (status, answer["code"], "token" in answer) == (403, "assurance_required", False)


@pytest.mark.requirement("R10")
@pytest.mark.parametrize("address", ["10.9.0.7", "::ffff:10.9.0.7", "::ffff:0a09:0007"])
def test_a_network_that_is_forbidden_is_so_in_every_spelling_of_an_address(house: House, address: str) -> None:
    house.rules(lambda text: text + '\n[networks]\nguests = ["10.9.0.0/16"]\n')
    forbid = '@id("no-guests")\nforbid(principal, action == Action::"credential-issue", resource)\n'
    house.policy("guests.cedar", forbid + 'when { context.networks.contains(Network::"guests") };\n')
    body = {"principal": "g", "role": "application", "ttl_seconds": 600, "scope": {"operations": ["random"], "keys": ["k"]}}
    assert house.send("/v1/credentials", house.server.tokens["operator"], "", body, address)[0] == 403
    assert house.send("/v1/credentials", house.server.tokens["operator"], "", body, "10.8.0.7")[0] == 201

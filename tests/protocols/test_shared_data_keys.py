"""Data keys that wait for the same commit: drawn and wrapped together, and each caller's own (decision 11)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave.core.errors import Broken, Sealed, Unavailable
from keyclave.envelope.context import encode_context
from keyclave.envelope.header import KIND_WRAPPED_KEY, authenticated, key_info, parse
from keyclave.operations.attempt import Attempt
from keyclave.operations.messages import KeyMessage
from keyclave.operations.sealing_reasons import Why
from tests.protocols.clocked import House, clocked
from tests.protocols.repeating import Connection

DATA_KEY, UNWRAP = "/v1/keys/{key}/data-key", "/v1/keys/{key}/unwrap"
LENGTHS = (32, 16, 1024, 33, 64, 1024, 500)

pytestmark = pytest.mark.requirement("R4", "R7")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


def warm(house: House, count: int) -> list[Connection]:
    """Return connections whose next requests come again."""
    token = house.issued("maker", "application", {"operations": ["data-key"], "keys": ["ward"]})
    lines = [Connection(house, token, DATA_KEY) for _ in range(count)]
    for line in lines:
        assert line.ask(b"{}")[0] == 200
        assert line.head.repeat is not None
    return lines


def asked(number: int) -> dict[str, Any]:
    context = {"patient": str(number % 7)} if number % 3 else {}
    return {"bytes": LENGTHS[number % len(LENGTHS)], "context": context, "plaintext": number % 5 != 0}


def send(lines: list[Connection]) -> list[dict[str, Any]]:
    """Send what `asked` says of each, and return the answers."""
    for number, line in enumerate(lines):
        line.send(json.dumps(asked(number)).encode())
    lines[0].house.server.store.flush()
    answers = [line.answers.pop() for line in lines]
    assert {status for status, _ in answers} == {200}
    return [answer for _, answer in answers]


def test_each_is_a_key_of_its_own_in_the_length_asked_for_and_opens_in_its_context_alone(house: House) -> None:
    """More of them than one piece of locked memory holds, twice over the same connections."""
    lines = warm(house, 64)
    opener = house.issued("opener", "application", {"operations": ["unwrap"], "keys": ["ward"]})
    materials, events = list[bytes](), set[str]()
    for _ in range(2):
        for number, answer in enumerate(send(lines)):
            said = asked(number)
            body = {"wrapped": answer["wrapped"], "context": said["context"]}
            opened = house.ask("POST", UNWRAP, opener, body, ref="ward", expect=200)["material"]
            assert ("plaintext" in answer) == said["plaintext"]
            assert answer.get("plaintext", opened) == opened
            assert set(answer) - {"plaintext"} == {"event", "wrapped", "key", "version"}
            body["context"] = {"patient": "another"}
            assert house.ask("POST", UNWRAP, opener, body, ref="ward")[0] == 400
            materials.append(base64.b64decode(opened))
            events.add(answer["event"])
    assert [len(each) for each in materials] == [asked(number)["bytes"] for _ in range(2) for number in range(len(lines))]
    assert len({each[:16] for each in materials}) == len(events) == 2 * len(lines)
    assert all(any(each) for each in materials)


def test_they_are_parts_of_one_message_whose_numbers_come_once(house: House) -> None:
    headers = [parse(base64.b64decode(answer["wrapped"]))[0] for answer in send(warm(house, 20))]
    assert {header.kind for header in headers} == {KIND_WRAPPED_KEY}
    assert len({header.message_id for header in headers}) == 1
    assert sorted(int.from_bytes(header.iv, "big") for header in headers) == list(range(1, 21))


def test_none_is_drawn_before_its_event_is_kept_and_none_if_it_never_is(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,), waiting = warm(house, 1), list[Attempt]()
    with monkeypatch.context() as patch:
        patch.setattr(house.server.store, "enqueue", waiting.append)
        patch.setattr(KeyMessage, "_drawn", lambda *_: pytest.fail("a key was drawn"))
        line.send(b"{}")
        waiting.pop().done(Unavailable("the database does not answer", "try again"))
    status, answer = line.answers.pop()
    assert (status, "wrapped" in answer, house.server.desk.messages) == (503, False, {})
    assert line.ask(b"{}")[0] == 200


def test_what_waits_is_made_before_its_key_is_let_go_of(house: House) -> None:
    lines = warm(house, 3)
    desk = house.server.desk
    handle = desk.keyring.find(house.tenant, "ward").primary
    assert handle is not None
    with desk.module.random_slot(32) as copy:
        copy.view()[:] = handle.slot.view()
        for line in lines:
            line.send(b"{}")
        (message,) = desk.messages.values()
        desk.let_go(Why.SEALED)
        with pytest.raises(Sealed):
            message.seal(b"x", b"")
        house.server.store.flush()
        for line in lines:
            _, answer = line.answers.pop()
            header, sealed = parse(base64.b64decode(answer["wrapped"]))
            info = key_info(header.kind, header.key_id, header.version, header.message_id)
            aad = authenticated(header.raw, encode_context({}))
            opened = desk.module.open_message(copy, info, header.commitment, header.iv, sealed, aad)
            assert opened == base64.b64decode(answer["plaintext"])


@pytest.mark.parametrize("fault", [Broken("the module is in its error state", "restart"), RuntimeError("as a test wants it")])
def test_one_that_cannot_be_made_is_an_error_of_its_request(
    house: House, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    lines = warm(house, 20)

    def fail(*_: object) -> list[bytes]:
        raise fault

    for line in lines:
        line.send(b"{}")
    with monkeypatch.context() as patch:
        patch.setattr(KeyMessage, "seal_all", fail)
        house.server.store.flush()
    for line in lines:
        status, answer = line.answers.pop()
        assert (status, "wrapped" in answer, "plaintext" in answer) == (500, False, False)
    assert [line.ask(b"{}")[0] for line in lines] == [200] * len(lines)

"""Messages that the requests of one commit share, and that nothing else does (decision 11)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave.core.errors import Broken, Sealed, Unavailable
from keyclave.envelope.context import encode_context
from keyclave.envelope.header import authenticated, key_info, parse
from keyclave.operations.attempt import Attempt
from keyclave.operations.messages import Message
from keyclave.operations.sealing_reasons import Why
from tests.protocols.clocked import DECRYPT, ENCRYPT, PLAIN, House, clocked
from tests.protocols.repeating import Connection

BATCH = json.dumps({"items": [{"plaintext": PLAIN}]}).encode()

pytestmark = pytest.mark.requirement("R4", "R7")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


def made(answer: Any) -> tuple[bytes, int]:
    """Return message id and number of a part."""
    header, _ = parse(base64.b64decode(answer["ciphertext"]))
    return header.message_id, int.from_bytes(header.iv, "big")


def test_requests_of_one_commit_are_parts_of_one_message_and_all_open(house: House) -> None:
    lines = [Connection(house, house.writer) for _ in range(8)]
    for _ in range(2):
        for line in lines:
            line.send()
        house.server.store.flush()
    rounds = [[made(line.answers[number][1]) for line in lines] for number in (0, 1)]
    for parts in rounds:
        assert len({message for message, _ in parts}) == 1
        assert sorted(number for _, number in parts) == list(range(1, 9))
    assert rounds[0][0][0] != rounds[1][0][0]
    opener = house.issued("opener", "application", {"operations": ["decrypt"], "keys": ["ward"]})
    for line in lines:
        asked = {"ciphertext": line.answers[0][1]["ciphertext"]}
        assert house.ask("POST", DECRYPT, opener, asked, ref="ward", expect=200)["plaintext"] == PLAIN


def test_who_waits_for_each_answer_gets_a_message_for_each(house: House) -> None:
    line = Connection(house, house.writer)
    parts = [made(line.ask()[1]) for _ in range(6)]
    assert len({message for message, _ in parts}) == 6
    assert {number for _, number in parts} == {1}
    assert house.server.desk.messages == {}


def test_credentials_never_share_a_message(house: House) -> None:
    other = house.issued("writer", "application", {"operations": ["encrypt"], "keys": ["ward"]})  # of the same principal
    lines = [Connection(house, token) for token in (house.writer, other, house.writer, other)]
    for line in lines:
        line.send()
    house.server.store.flush()
    first, second, third, fourth = (made(line.answers[0][1])[0] for line in lines)
    assert first == third != second == fourth


def test_a_kind_has_messages_of_its_own(house: House) -> None:
    token = house.issued("both", "application", {"operations": ["encrypt", "data-key"], "keys": ["ward"]})
    encrypting, wrapping = Connection(house, token), Connection(house, token, "/v1/keys/{key}/data-key")
    encrypting.send()
    wrapping.send(b"{}")
    house.server.store.flush()
    wrapped, _ = parse(base64.b64decode(wrapping.answers[0][1]["wrapped"]))
    assert wrapped.message_id != made(encrypting.answers[0][1])[0]


def test_items_of_batches_are_parts_of_the_same_message_and_no_number_comes_twice(house: House) -> None:
    """Also where a batch has an item that cannot be encrypted, and is done over one by one."""
    single = Connection(house, house.writer)
    batches = [Connection(house, house.writer, f"{ENCRYPT}/batch") for _ in range(3)]
    for _ in range(2):
        for batch, texts in zip(batches, ([PLAIN] * 3, [PLAIN, "not base64", PLAIN], [PLAIN]), strict=True):
            batch.send(json.dumps({"items": [{"plaintext": text} for text in texts]}).encode())
            single.send()
        house.server.store.flush()
        items = [each for batch in batches for each in batch.answers.pop()[1]["results"] if "ciphertext" in each]
        parts = [made(item) for item in items] + [made(single.answers.pop()[1]) for _ in batches]
        assert len(parts) == 9 and len({number for _, number in parts}) == 9
        assert len({message for message, _ in parts}) == 1
        opener = house.issued("opener", "application", {"operations": ["decrypt"], "keys": ["ward"]})
        for item in items:
            asked = {"ciphertext": item["ciphertext"]}
            assert house.ask("POST", DECRYPT, opener, asked, ref="ward", expect=200)["plaintext"] == PLAIN
    waited_for = [made(batches[0].ask(BATCH)[1]["results"][0]) for _ in range(2)]
    assert waited_for[0][0] != waited_for[1][0]


def test_a_seal_ends_every_message(house: House) -> None:
    line = Connection(house, house.writer)
    line.send()
    assert house.server.desk.messages
    house.server.desk.let_go(Why.SEALED)
    assert house.server.desk.messages == {}
    house.server.store.flush()


def test_a_commit_that_failed_ends_every_message(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is told that nothing happened; who asks again takes no part in a message that was given up."""
    line, waiting = Connection(house, house.writer), list[Attempt]()
    with monkeypatch.context() as patch:
        patch.setattr(house.server.store, "enqueue", waiting.append)
        line.send()
    (given_up,) = house.server.desk.messages.values()
    waiting.pop().done(Unavailable("the database does not answer", "try again"))
    assert line.answers.pop()[0] == 503
    assert house.server.desk.messages == {}
    line.send()
    assert given_up not in house.server.desk.messages.values()
    house.server.store.flush()
    assert line.answers.pop()[0] == 200


# ---- requests that come again: sealed together when their events are kept --------------------------------------------------
def warm(house: House, count: int) -> list[Connection]:
    """Return connections whose next requests come again: their heads are known, and what they were admitted by."""
    lines = [Connection(house, house.writer) for _ in range(count)]
    for line in lines:
        assert line.ask()[0] == 200
        assert line.head.repeat is not None
    return lines


def body(number: int) -> bytes:
    plaintext = base64.b64encode(f"record of patient {number}".encode() * (number % 5)).decode()
    return json.dumps({"plaintext": plaintext, "context": {"patient": str(number % 7)} if number % 3 else {}}).encode()


def test_each_gets_its_own_back(house: House) -> None:
    """Of requests that are sealed together, with others in between that are not: nobody gets what another one sent."""
    lines = warm(house, 24)
    opener = house.issued("opener", "application", {"operations": ["decrypt"], "keys": ["ward"]})
    for turn in range(3):
        late = Connection(house, house.writer)  # its first request is sealed by itself
        batch = Connection(house, house.writer, f"{ENCRYPT}/batch")
        for number, line in enumerate(lines):
            line.send(body(number + turn))
            if number == 11:
                late.send(body(99))
                batch.send(json.dumps({"items": [json.loads(body(each)) for each in range(5)]}).encode())
        house.server.store.flush()
        got = [(line.answers.pop(), number + turn) for number, line in enumerate(lines)]
        got += [(late.answers.pop(), 99), *(((200, each), at) for at, each in enumerate(batch.answers.pop()[1]["results"]))]
        assert len({made(answer) for (_, answer), _ in got}) == len(got) == 30
        assert len({made(answer)[0] for (_, answer), _ in got}) == 1
        for (status, answer), number in got:
            asked = json.loads(body(number))
            opened = {"ciphertext": answer["ciphertext"], "context": asked["context"]}
            assert status == 200
            assert house.ask("POST", DECRYPT, opener, opened, ref="ward", expect=200)["plaintext"] == asked["plaintext"]


def test_what_waits_is_sealed_before_its_key_is_let_go_of(house: House) -> None:
    lines = warm(house, 3)
    handle = house.server.desk.keyring.find(house.tenant, "ward").primary
    assert handle is not None
    with house.server.desk.module.random_slot(32) as copy:
        copy.view()[:] = handle.slot.view()
        for number, line in enumerate(lines):
            line.send(body(number))
        (message,) = house.server.desk.messages.values()
        house.server.desk.let_go(Why.SEALED)
        for further in (lambda: message.seal(b"x", b""), lambda: message.seal_all([b"x"], [b""])):
            with pytest.raises(Sealed):
                further()
        house.server.store.flush()
        for number, line in enumerate(lines):
            status, answer = line.answers.pop()
            header, sealed = parse(base64.b64decode(answer["ciphertext"]))
            info = key_info(header.kind, header.key_id, header.version, header.message_id)
            asked = json.loads(body(number))
            if not asked["context"]:
                aad = authenticated(header.raw, encode_context({}))
                plaintext = house.server.desk.module.open_message(copy, info, header.commitment, header.iv, sealed, aad)
                assert plaintext == base64.b64decode(asked["plaintext"])
            assert (status, header.version) == (200, 1)


def test_what_cannot_be_sealed_is_an_error_of_its_request_and_never_an_empty_ciphertext(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = warm(house, 3)
    for fault in (Broken("the module is in its error state", "restart"), RuntimeError("as a test wants it")):

        def fail(*_: object, fault: Exception = fault) -> list[bytes]:
            raise fault

        for line in lines:
            line.send()
        with monkeypatch.context() as patch:
            patch.setattr(Message, "seal_all", fail)
            house.server.store.flush()
        for line in lines:
            answer = line.answers.pop()
            assert answer[0] == 500
            assert "ciphertext" not in answer[1]
    assert [line.ask()[0] for line in lines] == [200] * 3


def test_what_is_taken_back_is_done_anew(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that another process suspends while requests wait: done over from their beginning, they are refused."""
    lines, waiting = warm(house, 2), list[Attempt]()
    with monkeypatch.context() as patch:
        patch.setattr(house.server.store, "enqueue", waiting.append)
        for line in lines:
            line.send()
    key = house.ask("POST", "/v1/keys/{key}/suspend", "operator", {"reason": "lost laptop"}, ref="ward", expect=200)["id"]
    for attempt in waiting:
        assert attempt.later is not None
        assert attempt.void([(house.tenant, key)])
        attempt.again()
    house.server.store.flush()
    assert [line.answers.pop()[0] for line in lines] == [409, 409]

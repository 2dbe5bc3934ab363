"""Answers that are written while the disk is busy: they are the same as any other's, and none leaves if the disk fails."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave.operations.attempt import Attempt
from keyclave.store.embedded import groups
from keyclave.store.embedded.background_sync import BackgroundSync
from tests.protocols.clocked import ENCRYPT, PLAIN, House, clocked
from tests.protocols.repeating import BODY, Connection

pytestmark = [pytest.mark.file_store("answers beside the sync of SQLite's write-ahead log"), pytest.mark.requirement("P1", "R4")]

CROWD = groups._CROWD


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def drafted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Return what is drafted, by operation."""
    found: list[tuple[str, bytes]] = []
    draft = Attempt.draft

    def noted(attempt: Attempt) -> None:
        draft(attempt)
        found.append((attempt.op, attempt.drafted))

    monkeypatch.setattr(Attempt, "draft", noted)
    return found


def send(house: House, path: str = ENCRYPT, body: bytes = BODY) -> list[Connection]:
    lines = [Connection(house, house.writer, path) for _ in range(CROWD)]
    for line in lines:
        line.send(body)
    house.server.store.flush()
    return lines


def test_each_gets_the_answer_that_was_drafted_for_it(house: House, drafted: list[tuple[str, bytes]]) -> None:
    answers = [line.answers[0] for line in send(house)]
    assert [json.loads(text) for _, text in drafted] == [answer for _, answer in answers]
    assert {status for status, _ in answers} == {200}
    kept = {entry["id"]: entry["outcome"] for entry in house.events(op="encrypt")}
    assert [kept[answer["event"]] for _, answer in answers] == ["ok"] * CROWD
    assert len({answer["event"] for _, answer in answers}) == CROWD


def test_a_disk_that_fails_after_the_draft_leaves_nobody_with_it(
    house: House, drafted: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = BackgroundSync.wait

    def failing(sync: BackgroundSync) -> None:
        wait(sync)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(BackgroundSync, "wait", failing)
        lines = send(house)
    assert len(drafted) == CROWD
    for line in lines:
        status, answer = line.answers.pop()
        assert (status, answer["code"]) == (503, "unavailable")
        assert not {"ciphertext", "event"} & answer.keys()
    assert house.use(house.writer) == 200


def test_refusals_changes_and_batches_are_written_when_they_leave(house: House, drafted: list[tuple[str, bytes]]) -> None:
    batch = json.dumps({"items": [{"plaintext": PLAIN}] * 3}).encode()
    assert {line.answers[0][0] for line in send(house, f"{ENCRYPT}/batch", batch)} == {200}
    assert all(line.answers[0][0] >= 400 for line in send(house, "/v1/keys/{key}/sign", b"{}"))
    made: list[Any] = []
    for _ in range(CROWD):
        body = {"grantee": "app", "operations": ["encrypt"], "keys": ["*"], "ttl_seconds": 60}
        made.append(_make(house, "operator", "/v1/grants", body))
    house.server.store.flush()
    assert [status for answers in made for status, _ in answers] == [201] * CROWD
    assert {text for _, text in drafted} == {b""}


def test_new_keys_are_answered_with_what_was_drafted_and_taken_names_with_a_refusal(
    house: House, drafted: list[tuple[str, bytes]]
) -> None:
    for names in ([f"a{number}" for number in range(CROWD)], ["b", "ward", *(f"c{number}" for number in range(CROWD))]):
        drafted.clear()
        made = [_make(house, "custodian", "/v1/keys", {"name": name, "owner": "cardiology"}) for name in names]
        house.server.store.flush()
        assert [status for answers in made for status, _ in answers] == [409 if name == "ward" else 201 for name in names]
        answers = [answer for answers in made for status, answer in answers if status == 201]
        told = [json.loads(text) for _, text in drafted if text]
        assert told == answers and len(answers) >= CROWD


def _make(house: House, who: str, path: str, body: dict[str, Any]) -> list[tuple[int, Any]]:
    line = Connection(house, house.server.tokens[who], path, "")
    line.send(json.dumps(body).encode())
    return line.answers

"""Keys that are made together: each is a key of its own, and is answered, recorded and refused as if it had been made alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave.app import wiring
from keyclave.policy.apart import Act
from keyclave.store.access.acts import read_acts, read_done
from tests.protocols.clocked import DECRYPT, ENCRYPT, PLAIN, House, clocked
from tests.protocols.making import CREATE, KINDS, body, line_of, reopened, seal
from tests.protocols.repeating import Connection

pytestmark = pytest.mark.requirement("R4", "R5", "R8", "R13")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


def together(house: House, bodies: list[bytes], line: Connection | None = None) -> list[tuple[int, Any]]:
    """Send these at once, to share a commit; return the answers in the same order."""
    lines = [line or line_of(house) for _ in bodies]
    for each, text in zip(lines, bodies, strict=True):
        each.send(text)
    house.server.store.flush()
    return [each.answers.pop(0) for each in lines]


def shown(house: House, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = house.ask("GET", "/v1/keys/{key}", "custodian", ref=name, expect=200)
    return {field: value for field, value in answer.items() if field != "event"}


def test_keys_of_one_commit_are_what_was_asked_for_each_by_itself(house: House) -> None:
    bodies = [body(f"k{number}", **kind) for number, kind in enumerate(KINDS * 3)]
    before = house.server.store.placed()
    answers = together(house, bodies)
    events = [json.loads(entry) for entry in house.server.store.read_entries(before, 1000)]
    assert len(events) == len(bodies) and [status for status, _ in answers] == [201] * len(bodies)
    house.server.desk.keyring.forget_all()
    for number, ((_, answer), event) in enumerate(zip(answers, events, strict=True)):
        kind = KINDS[number % len(KINDS)]
        assert {name: value for name, value in answer.items() if name != "event"} == shown(house, f"k{number}")
        assert {name: answer[name] for name in kind if name not in ("activate", "rotation", "tags")}.items() <= kind.items()
        assert answer["tags"] == kind.get("tags", {})
        assert answer["versions"][0]["state"] == ("active" if kind.get("activate", True) else "pre-active")
        assert (event["id"], event["key"], event["version"], event["outcome"]) == (answer["event"], answer["id"], 1, "ok")
        assert event["detail"]["name"] == answer["name"] and event["detail"]["spec"] == answer["spec"]
    assert len({answer["id"] for _, answer in answers}) == len(answers)
    assert len({answer["versions"][0]["kcv"] for _, answer in answers}) == len(answers)


def test_what_was_made_together_opens_apart_after_a_start(house: House) -> None:
    """Each under its own material: what one encrypted no other opens."""
    answers = together(house, [body(f"k{number}") for number in range(20)])
    user = house.issued("user", "application", {"operations": ["encrypt", "decrypt"], "keys": ["k*"]})
    reopened(house)
    sealed = []
    for _, answer in answers:
        said = house.ask("POST", ENCRYPT, user, {"plaintext": PLAIN}, ref=answer["id"], expect=200)
        sealed.append(said["ciphertext"])
    reopened(house)
    for place, (_, answer) in enumerate(answers):
        opened = house.ask("POST", DECRYPT, user, {"ciphertext": sealed[place]}, ref=answer["name"], expect=200)
        assert opened["plaintext"] == PLAIN
        other = {"ciphertext": sealed[place - 1]}
        assert house.ask("POST", DECRYPT, user, other, ref=answer["name"])[0] >= 400


def test_acts_on_new_keys_are_kept_as_those_on_any(house: House) -> None:
    """Separation of duties reads them: who made a key, and its first version."""
    together(house, [body("a"), body("b")])
    house.ask("POST", CREATE, "custodian", {"name": "alone", "owner": "o"}, expect=201)
    line = line_of(house)
    for name in ("first", "again", "once-more"):
        assert line.ask(body(name))[0] == 201
    assert line.head.repeat is not None and line.head.repeat.alike is not None
    done = house.server.store.read(lambda conn: read_done(conn, house.tenant))
    for event in house.events(op="key-create"):
        key = event["key"]
        for kind, subject in (("key", key), ("key-version", f"{key}:1")):
            acts = house.server.store.read(lambda conn, on=(kind, subject): read_acts(conn, house.tenant, *on, {"key-create"}))
            assert acts == [Act("key-create", event["actor"])]
        assert [(one.kind, one.subject, one.action) for one in done[event["id"]]] == [
            ("key", key, "key-create"), ("key-version", f"{key}:1", "key-create"),
        ]  # fmt: skip
    assert len(done) >= 7


@pytest.mark.parametrize("taken", ["ward", "new"])
def test_a_name_that_is_taken_is_refused_and_takes_no_other_key_along(house: House, taken: str) -> None:
    bodies = [body("a"), body("new"), body(taken), body("b")]
    answers = together(house, bodies)
    assert [status for status, _ in answers] == [201, 201, 409, 201]
    assert answers[2][1]["code"] == "conflict" and f"{taken!r}" in answers[2][1]["detail"]
    outcomes = [event["outcome"] for event in house.events(op="key-create")][-4:]
    assert outcomes == ["ok", "ok", "conflict", "ok"]
    for name, (status, answer) in zip(("a", "new", "", "b"), answers, strict=True):
        if status == 201:
            assert {field: value for field, value in answer.items() if field != "event"} == shown(house, name)
    assert house.server.desk.new_keys == {} and not house.server.desk.pending


def test_a_use_beside_a_key_that_is_refused_is_answered_and_recorded_once(house: House) -> None:
    """The group is begun again then: nobody is encrypted for twice under one number, and nobody told twice."""
    use = Connection(house, house.writer)
    for _ in range(3):
        use.ask()
    before = house.server.store.placed()
    line = line_of(house)
    use.send()
    line.send(body("ward"))
    use.send()
    house.server.store.flush()
    assert [status for status, _ in use.answers] == [200, 200] and [status for status, _ in line.answers] == [409]
    events = [json.loads(entry) for entry in house.server.store.read_entries(before, 100)]
    recorded = sorted((event["op"], event["outcome"]) for event in events)  # on PostgreSQL uses go ahead
    assert recorded == [("encrypt", "ok"), ("encrypt", "ok"), ("key-create", "conflict")]
    opener = house.issued("opener", "application", {"operations": ["decrypt"], "keys": ["ward"]})
    sealed = [answer["ciphertext"] for _, answer in use.answers]
    assert len(set(sealed)) == 2
    for each in sealed:
        assert house.ask("POST", DECRYPT, opener, {"ciphertext": each}, ref="ward", expect=200)["plaintext"] == PLAIN


def test_keys_that_wait_when_the_server_is_sealed_are_not_made(house: House) -> None:
    lines = [line_of(house) for _ in range(4)]
    for number, line in enumerate(lines):
        line.send(body(f"k{number}"))
    seal(house)
    house.server.store.flush()
    assert [line.answers[0][1]["code"] for line in lines] == ["sealed"] * 4
    wiring._open_development_root(house.server.desk, house.server.home)
    assert [house.ask("GET", "/v1/keys/{key}", "custodian", ref=f"k{number}")[0] for number in range(4)] == [404] * 4
    assert house.server.desk.new_keys == {}


def test_a_module_in_its_error_state_makes_none(house: House) -> None:
    line = line_of(house)
    line.send(body("k"))
    house.server.desk.module.ready = False  # type: ignore[attr-defined]
    house.server.desk.module._fault = "a test"  # type: ignore[attr-defined]
    house.server.store.flush()
    assert line.answers[0][0] == 500 and house.server.desk.new_keys == {}


def test_what_is_only_rehearsed_or_was_done_before_leaves_no_key_waiting(house: House) -> None:
    once = line_of(house, **{"idempotency-key": "k"})
    first, second = line_of(house, **{"idempotency-key": "j"}), line_of(house, **{"idempotency-key": "j"})
    assert once.ask(body("once"))[0] == 201
    assert once.ask(body("once"))[0] == 201
    first.send(body("twice"))
    second.send(body("twice"))
    house.server.store.flush()
    assert first.answers[0][1]["id"] == second.answers[0][1]["id"]
    rehearsed = line_of(house)
    rehearsed.head.dry_run = True
    assert rehearsed.ask(body("rehearsed"))[0] == 200
    assert house.ask("GET", "/v1/keys/{key}", "custodian", ref="rehearsed")[0] == 404
    assert house.server.desk.new_keys == {} and not house.server.desk.pending

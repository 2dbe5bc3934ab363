"""Keys that are made together: each is a key of its own, and is answered, recorded and refused as if it had been made alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyclave.app import wiring
from keyclave.identity.caller import Caller
from keyclave.operations import repeats
from keyclave.operations.attempt import Attempt
from keyclave.operations.sealing_reasons import Why
from tests.protocols.clocked import DECRYPT, ENCRYPT, HOUR, PLAIN, House, clocked
from tests.protocols.repeating import Connection

pytestmark = pytest.mark.requirement("R4", "R5", "R8", "R13")
CREATE = "/v1/keys"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


def line_of(house: House, who: str = "custodian", **headers: str) -> Connection:
    return Connection(house, house.server.tokens.get(who, who), CREATE, "", **headers)


def body(name: str, **more: Any) -> bytes:
    return json.dumps({"name": name, "owner": "cardiology", **more}).encode()


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


KINDS: list[dict[str, Any]] = [
    {}, {"spec": "aes-256", "tags": {"b": "2", "a": "tr\u00e4ger"}}, {"spec": "hmac-sha-256", "purpose": "mac"},
    {"cryptoperiod": {"protect_days": 3, "process_days": 9}}, {"rotation": {"every_days": 9, "reason": "risk"}},
    {"activate": False}, {"stale_ok": True}, {"classification": "PII", "environment": "test"},
    {"spec": "ed25519", "purpose": "sign"}, {"spec": "hmac-sha-512", "purpose": "mac"},
]  # fmt: skip


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
    rows = house.server.store.read(
        lambda conn: conn.exec_driver_sql(
            "SELECT k.name, a.kind, a.action, a.principal, a.at = k.created_at, a.subject IN (k.id, k.id || ':1'), a.event"
            " FROM acts a JOIN keys k ON a.subject IN (k.id, k.id || ':1') ORDER BY a.number"
        ).fetchall()
    )
    said: dict[str, list[Any]] = {}
    for name, *rest, event in rows:
        said.setdefault(name, []).append(tuple(rest))
        assert event in {entry["id"] for entry in house.events(op="key-create")}
    assert said["a"] == said["b"] == said["alone"]
    assert [kind for kind, *_ in said["a"]] == ["key", "key-version"]


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


def seal(house: House) -> None:
    house.server.desk.let_go(Why.SEALED)


def reopened(house: House) -> None:
    seal(house)
    wiring._open_development_root(house.server.desk, house.server.home)


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


# ---- one after the other over one connection ----------------------------------------------------------------------------------
NUMBERS = iter(range(1_000_000))


def told(house: House, line: Connection, **more: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Make a key; return its outcome, and the events it left but for time, number and names."""
    store = house.server.store
    before = store.placed()
    name = f"n{next(NUMBERS)}"
    status, answer = line.ask(body(name, **more))
    left = [{**json.loads(entry), "at": 0, "id": ""} for entry in store.read_entries(before, 100)]
    for event in left:
        assert event.pop("key", "") == answer.get("id", "")
        if event.get("detail"):
            assert event["detail"].pop("name") == name
    versions = [{k: v for k, v in each.items() if k not in ("kcv", "public_key")} for each in answer.get("versions", [])]
    mine = {k: v for k, v in answer.items() if k not in ("id", "name", "event", "versions", "instance")}
    return (status, mine, versions), left


def again(house: House, line: Connection, **more: Any) -> Any:
    """Ask over a line that comes again and over a fresh one; both are told and recorded the same."""
    first, second = told(house, line, **more), told(house, line_of(house, line.token), **more)
    assert first == second
    return first[0][0]


def revoke(house: House) -> None:
    me = house.ask("GET", "/v1/whoami", "maker", expect=200)
    house.ask("POST", "/v1/credentials/{credential}/revoke", "operator", ref=me["credential"], expect=200)


def forbid(house: House) -> None:
    house.policy("forbidden.cedar", '@id("no-keys")\nforbid(principal, action == Action::"key-create", resource);\n')


def expire(house: House) -> None:
    house.hands.at += 40 * 24 * HOUR


def sensitive(rule: str) -> Callable[[House], None]:
    """Return what makes creation sensitive."""
    return lambda house: house.rules(lambda text: f'{text}\n[[sensitive]]\noperations = ["key-create"]\n{rule}\n')


def assure(house: House) -> None:
    house.rules(lambda text: re.sub(r"(\[assurance\]\n(?:#.*\n)*custodian = )\d", r"\g<1>3", text))


CHANGES: dict[str, Callable[[House], None]] = {
    "revoke": revoke, "forbid": forbid, "expire": expire, "seal": seal, "approval": sensitive("count = 1\nroles = ['operator']"),
    "proof of presence": sensitive("count = 1\nroles = ['operator']\nfresh_minutes = 5"), "assurance": assure,
}  # fmt: skip


@pytest.fixture
def maker(house: House) -> Connection:
    """A connection that has made keys, and goes by what they were admitted by."""
    house.server.tokens["maker"] = house.server.issue("maker", "custodian", "null", ttl=86_400 * 20)[1]
    line = line_of(house, "maker")
    for _ in range(3):
        assert again(house, line) == 201
    assert line.head.repeat is not None
    return line


@pytest.mark.parametrize("change", [*CHANGES])
def test_what_changed_between_two_keys_counts_for_the_second(house: House, maker: Connection, change: str) -> None:
    CHANGES[change](house)
    assert again(house, maker) >= 400


def test_a_change_that_waits_for_its_commit_counts_already(house: House, maker: Connection) -> None:
    me = house.ask("GET", "/v1/whoami", "maker", expect=200)
    revoking = Connection(house, house.server.tokens["operator"], "/v1/credentials/{credential}/revoke", me["credential"])
    revoking.send(b"{}")
    maker.send(body("late"))
    house.server.store.flush()
    assert revoking.answers.pop()[0] == 200 and maker.answers.pop()[0] == 401
    assert house.ask("GET", "/v1/keys/{key}", "custodian", ref="late")[0] == 404


def test_keys_that_wait_do_not_keep_others_from_coming_again(house: House, maker: Connection) -> None:
    """What is about to change is looked for by name: a new key changes nothing that anybody has."""
    use = Connection(house, house.writer)
    for _ in range(3):
        use.ask()
    maker.send(body("one"))
    repeat = use.head.repeat
    assert house.server.desk.pending and repeat is not None and repeat.holds(house.hands.at)
    maker.send(body("two"))
    use.send()
    assert maker.head.repeat is not None and use.head.repeat is repeat
    house.server.store.flush()
    assert [status for status, _ in (*maker.answers, *use.answers)] == [201, 201, 200]


def test_limits_hold_for_keys_that_come_one_after_the_other(house: House, maker: Connection) -> None:
    house.rules(lambda text: text.replace("concurrent = 1024", "concurrent = 3"))
    maker.ask(body("first"))
    assert maker.head.repeat is not None
    for number in range(5):
        maker.send(body(f"at-once-{number}"))
    house.server.store.flush()
    assert sorted(status for status, _ in maker.answers) == [201, 201, 201, 429, 429]


@pytest.mark.parametrize(
    ("standing", "identity", "kept"),
    [({}, "crd_x", True), ({"stepped_up_at": 1}, "crd_x", False), ({}, "ses_x", False), ({"thumbprint": b"t"}, "crd_x", False)],
)
def test_a_person_whose_presence_counts_is_judged_each_time(
    house: House, standing: dict[str, Any], identity: str, kept: bool
) -> None:
    """How long ago somebody was there changes from one request to the next, and a session ends when nobody asks."""
    attempts: list[Attempt] = []
    enqueue = house.server.store.enqueue
    house.server.store.enqueue = lambda unit: (attempts.append(unit), enqueue(unit))[1]  # type: ignore[method-assign, assignment]
    line_of(house).ask(body("one"))
    (attempt,) = attempts
    known = attempt.caller
    credential = msgspec.structs.replace(known.credential, id=identity)
    attempt.caller = Caller(credential, msgspec.structs.replace(known.standing, **standing))
    attempt.caller.digest = known.digest
    assert known.standing.person and (repeats.remember(attempt) is not None) is kept


STEPS = st.one_of(
    st.sampled_from(range(len(KINDS))),
    st.sampled_from(range(len(KINDS))),
    st.sampled_from([*CHANGES, "permit", "reopen", "taken"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=12))
def test_a_line_that_makes_keys_is_told_and_recorded_what_a_fresh_one_is(house: House, steps: list[int | str]) -> None:
    begun, files = house.hands.at, dict(house.server.desk.access.revisions.of(house.tenant).bundle.files)
    house.server.tokens["maker"] = house.server.issue(f"maker{next(NUMBERS)}", "custodian", "null", ttl=86_400 * 20)[1]
    line = line_of(house, "maker")
    try:
        for step in steps:
            if isinstance(step, int):
                again(house, line, **KINDS[step])
            elif step == "taken":
                assert line.ask(body("ward"))[0] >= 400
            elif step == "permit":
                house.policy("forbidden.cedar", "")
            elif step == "reopen":
                reopened(house)
            elif not house.server.desk.vault.sealed and house.ask("GET", "/v1/whoami", "maker")[0] == 200:
                CHANGES[step](house)
    finally:
        house.hands.at = begun
        reopened(house)
        house.policy("forbidden.cedar", "")
        house.policy("rules.toml", files["rules.toml"])

"""Requests of the same head: what changes between two of them counts for the second, and what they leave is the same."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyclave.app import wiring
from keyclave.identity.caller import Caller
from keyclave.identity.elevation import Reach
from keyclave.operations import repeats
from keyclave.operations.attempt import Attempt
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.nodes.lease import Lease, steady
from keyclave.operations.nodes.membership import Membership
from keyclave.operations.sealing_reasons import Why
from keyclave.protocols.rest.gateway import Head
from tests.protocols.clocked import DECRYPT, ENCRYPT, HOUR, PLAIN, House, clocked
from tests.protocols.inside import BY_PATH
from tests.protocols.repeating import BODY, RE_ENCRYPT, Connection

pytestmark = pytest.mark.requirement("R4", "R8", "R11")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


def entries(house: House, last: int) -> list[dict[str, Any]]:
    """Return the last events of the log."""
    store = house.server.store
    return [json.loads(entry) for entry in store.read_entries(store.placed() - last, last)]


# ---- the same request again -------------------------------------------------------------------------------------------------
def test_a_repeated_use_leaves_the_event_of_an_ordinary_one(house: House) -> None:
    line = Connection(house, house.writer)
    for _ in range(4):
        assert line.ask()[0] == 200
    assert line.head.repeat is not None
    first, second, third, fourth = entries(house, 4)
    for later in (second, third, fourth):
        assert {**later, "at": 0, "id": ""} == {**first, "at": 0, "id": ""}
    assert len({event["id"] for event in (first, second, third, fourth)}) == 4


def test_contexts_of_repeated_uses_are_recorded_each(house: House) -> None:
    line = Connection(house, house.writer)
    bodies = [json.dumps({"plaintext": PLAIN, "context": {"id": name}}).encode() for name in ("a", "a", "a", "b", "a")]
    answers = [line.ask(body)[1] for body in bodies]
    shown = [event["context"] for event in entries(house, 5)]
    assert shown[0] == shown[1] == shown[2] == shown[4] != shown[3]
    opener = house.issued("opener", "application", {"operations": ["decrypt"], "keys": ["ward"]})
    for body, answer in zip(bodies, answers, strict=True):
        asked = {"ciphertext": answer["ciphertext"], "context": json.loads(body)["context"]}
        assert house.ask("POST", DECRYPT, opener, asked, ref="ward", expect=200)["plaintext"] == PLAIN


def revoke(house: House) -> None:
    me = house.ask("GET", "/v1/whoami", house.writer, expect=200)
    house.ask("POST", "/v1/credentials/{credential}/revoke", "operator", ref=me["credential"], expect=200)


def move(name: str, who: str = "operator") -> Callable[[House], None]:
    """Return what moves the key."""

    def change(house: House) -> None:
        house.ask("POST", f"/v1/keys/{{key}}/{name}", who, {"reason": "a test"}, ref="ward", expect=200)

    return change


def forbid(house: House) -> None:
    house.policy("forbidden.cedar", '@id("no-use")\nforbid(principal, action == Action::"encrypt", resource);\n')


def seal(house: House) -> None:
    house.server.desk.let_go(Why.SEALED)


def expire(house: House) -> None:
    house.hands.at += 21 * 24 * HOUR


def use_up(house: House) -> None:
    loaded = house.server.desk.keyring.find(house.tenant, "ward")
    assert loaded.primary is not None
    loaded.primary.limit = loaded.primary.used


def self_test_fails(house: House) -> None:
    house.server.desk.module.ready = False  # type: ignore[attr-defined]
    house.server.desk.module._fault = "a test"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change", [revoke, move("suspend"), move("compromise"), move("deactivate"), forbid, seal, expire, use_up, self_test_fails]
)
def test_what_changed_between_two_requests_counts_for_the_second(house: House, change: Callable[[House], None]) -> None:
    line = Connection(house, house.writer)
    for _ in range(3):
        assert line.ask()[0] == 200
    change(house)
    status, answer = line.ask()
    assert status >= 400, answer
    fresh_status, fresh = Connection(house, house.writer).ask()
    assert (status, answer["code"]) == (fresh_status, fresh["code"])


def test_after_a_rotation_the_new_version_is_used_and_after_a_resumption_the_key_again(house: House) -> None:
    line = Connection(house, house.writer)
    assert [line.ask()[1]["version"] for _ in range(3)] == [1, 1, 1]
    move("rotate")(house)
    assert [line.ask()[1]["version"] for _ in range(3)] == [2, 2, 2]
    assert [event["version"] for event in entries(house, 3)] == [2, 2, 2]
    move("suspend")(house)
    assert line.ask()[0] == 409
    move("resume")(house)
    assert line.ask()[0] == 200


def test_a_change_that_waits_for_its_commit_counts_already(house: House) -> None:
    line = Connection(house, house.writer)
    for _ in range(3):
        line.ask()
    head = Head()
    head.authorization = b"Bearer " + house.server.tokens["operator"].encode()
    body = json.dumps({"reason": "a test"}).encode()
    answers: list[int] = []
    house.server.gateway.submit(
        BY_PATH["POST", "/v1/keys/{key}/suspend"], "ward", head, body, line.peer, lambda status, *_: answers.append(status)
    )
    line.send()
    house.server.store.flush()
    assert (answers, line.answers[0][0]) == ([200], 409)


@pytest.mark.parametrize(
    ("headers", "body"),
    [({"keyclave-purpose": "TREAT"}, BODY), ({"keyclave-approval": "apr_none"}, BODY), ({"idempotency-key": "k"}, BODY)],
)
def test_a_head_that_says_more_than_who_asks_is_judged_each_time(house: House, headers: dict[str, str], body: bytes) -> None:
    line = Connection(house, house.writer, **headers)
    for _ in range(3):
        line.ask(body)
    assert line.head.repeat is None


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"plaintext":1}', b'{"plain":""}', b"\xff", b"", b"[" * 100_000])
def test_a_body_that_is_no_request_gets_the_answer_of_an_ordinary_one(house: House, body: bytes) -> None:
    line = Connection(house, house.writer)
    for _ in range(3):
        line.ask()
    assert line.head.repeat is not None
    fresh = Connection(house, house.writer).ask(body)
    again = line.ask(body)
    assert (again[0], again[1]["code"]) == (fresh[0], fresh[1]["code"]) and again[0] == 400
    assert [{**event, "at": 0, "id": ""} for event in entries(house, 1)] == [
        {**event, "at": 0, "id": ""} for event in entries(house, 2)[:1]
    ]
    assert line.ask()[0] == 200


def test_limits_hold_for_what_comes_again(house: House) -> None:
    line = Connection(house, house.writer)
    for _ in range(3):
        line.ask()
    rules = house.server.desk.access.revisions.of(house.tenant).bundle.files["rules.toml"]
    assert "concurrent = 1024" in rules
    house.policy("rules.toml", rules.replace("concurrent = 1024", "concurrent = 3"))
    line.ask()
    assert line.head.repeat is not None
    for _ in range(5):
        line.send()
    house.server.store.flush()
    assert sorted(status for status, _ in line.answers) == [200, 200, 200, 429, 429]


def test_what_a_grant_permits_is_judged_each_time(house: House) -> None:
    house.give(uses=3)
    line = Connection(house, house.app)
    assert [line.ask()[0] for _ in range(4)] == [200, 200, 200, 404]
    assert line.head.repeat is None


def test_a_grant_on_the_other_key_of_a_re_encryption_is_spent_each_time(house: House) -> None:
    """What permits the key in the path may be asked again; what permits the other key is counted."""
    house.ask("POST", "/v1/keys", "custodian", {"name": "lab", "owner": "cardiology"}, expect=201)
    mover = house.issued("app", "application", {"operations": ["encrypt", "re-encrypt"], "keys": ["ward"]})
    grant = house.give(operations=["re-encrypt"], keys=["lab"], uses=3)
    sealed = house.ask("POST", ENCRYPT, mover, {"plaintext": PLAIN}, ref="ward", expect=200)["ciphertext"]
    line = Connection(house, mover, RE_ENCRYPT)
    within, across = (json.dumps({"ciphertext": sealed, **to}).encode() for to in ({}, {"to_key": "lab"}))
    for _ in range(2):
        assert line.ask(within)[0] == 200
    assert line.head.repeat is not None
    assert [line.ask(across)[0] for _ in range(5)] == [200, 200, 200, 404, 404]
    uses = [event for event in entries(house, 5) if event["outcome"] == "ok"]
    assert {event["grant"] for event in uses} == {grant["id"]} and len(uses) == 3
    for _ in range(3):
        assert line.ask(within)[0] == 200
    assert ["grant" in event for event in entries(house, 3)] == [False, False, False]


def test_the_event_names_the_grant_it_rests_on_and_no_other(house: House) -> None:
    """Events that are alike are written from one form: a grant is never part of it, nor left out for it."""
    house.ask("POST", "/v1/keys", "custodian", {"name": "lab", "owner": "cardiology"}, expect=201)
    mover = house.issued("app", "application", {"operations": ["encrypt", "re-encrypt"], "keys": ["ward"]})
    grant = house.give(operations=["re-encrypt"], keys=["lab"])
    sealed = house.ask("POST", ENCRYPT, mover, {"plaintext": PLAIN}, ref="ward", expect=200)["ciphertext"]
    line = Connection(house, mover, RE_ENCRYPT)
    within, across = (json.dumps({"ciphertext": sealed, **to}).encode() for to in ({}, {"to_key": "lab"}))
    order = [within] * 4 + [across] * 3 + [within] * 2 + [across]
    for body in order:
        assert line.ask(body)[0] == 200
    assert [event.get("grant") for event in entries(house, len(order))] == [
        grant["id"] if body is across else None for body in order
    ]


@pytest.mark.parametrize("change", ["suspend", "deactivate", "rotate"])
def test_the_other_key_of_a_re_encryption_is_looked_at_each_time(house: House, change: str) -> None:
    house.ask("POST", "/v1/keys", "custodian", {"name": "lab", "owner": "cardiology"}, expect=201)
    mover = house.issued("mover", "application", {"operations": ["encrypt", "re-encrypt"], "keys": ["ward", "lab"]})
    sealed = house.ask("POST", ENCRYPT, mover, {"plaintext": PLAIN}, ref="ward", expect=200)["ciphertext"]
    line, across = Connection(house, mover, RE_ENCRYPT), json.dumps({"ciphertext": sealed, "to_key": "lab"}).encode()
    for _ in range(3):
        assert line.ask(across)[1]["version"] == 1
    assert line.head.repeat is not None
    house.ask("POST", f"/v1/keys/{{key}}/{change}", "operator", {"reason": "a test"}, ref="lab", expect=200)
    status, answer = line.ask(across)
    assert (status, answer.get("version")) == ((200, 2) if change == "rotate" else (409, None))


def test_a_connection_holds_on_to_no_key_that_was_dropped(house: House) -> None:
    """Its material is wiped when its last user lets it go: a connection that only waits is none, nor when the server is sealed."""
    line = Connection(house, house.writer)
    for _ in range(3):
        line.ask()
    assert line.head.repeat is not None

    def unwrapped() -> list[LoadedKey]:
        gc.collect()
        return [each for each in gc.get_objects() if isinstance(each, LoadedKey) and each.key.name == "ward" and each.handles]

    assert len(unwrapped()) == 1
    move("rotate")(house)
    assert unwrapped() == []
    assert line.ask()[0] == 200
    house.server.desk.keyring.forget_all()
    seal(house)
    assert unwrapped() == []


def test_a_refusal_by_a_limit_rests_on_what_it_was_judged_by(house: House) -> None:
    """So it begins again, like any other attempt, where another process was the faster one."""
    line = Connection(house, house.writer)
    rules = house.server.desk.access.revisions.of(house.tenant).bundle.files["rules.toml"]
    house.policy("rules.toml", rules.replace("concurrent = 1024", "concurrent = 2"))
    line.ask()
    waiting: list[Attempt] = []
    enqueue = house.server.store.enqueue
    house.server.store.enqueue = lambda unit: (waiting.append(unit), enqueue(unit))[1]  # type: ignore[method-assign, assignment]
    for _ in range(3):
        line.send()
    assert [attempt.error is None for attempt in waiting] == [True, True, False]
    assert all(attempt.void([(house.tenant, attempt.caller.id)]) for attempt in waiting)
    assert all(attempt.void([(house.tenant, "ward")]) for attempt in waiting)
    house.server.store.flush()


# ---- against the ordinary way ------------------------------------------------------------------------------------------------
def told(house: House, line: Connection, body: bytes) -> tuple[Any, list[dict[str, Any]]]:
    """Send a request; return its outcome, and the events it left but for time and number."""
    store = house.server.store
    before = store.placed()
    status, answer = line.ask(body)
    left = [{**json.loads(entry), "at": 0, "id": ""} for entry in store.read_entries(before, 100)]
    results = [(each.get("error"), each.get("version")) for each in answer.get("results", [])]
    return (status, answer.get("code"), answer.get("detail"), answer.get("version"), results), left


def again(name: str, who: str = "operator") -> Callable[[House], None]:
    """Return what moves the key if it can be moved so."""
    return lambda house: house.ask("POST", f"/v1/keys/{{key}}/{name}", who, {"reason": "a test"}, ref="ward") and None


def described(house: House) -> None:
    house.ask("PATCH", "/v1/keys/{key}", "custodian", {"owner": "oncology"}, ref="ward")


def permit(house: House) -> None:
    house.policy("forbidden.cedar", "")


def granted(house: House) -> None:
    body = {"grantee": "prober", "operations": ["encrypt"], "keys": ["ward"], "ttl_seconds": 60}
    house.ask("POST", "/v1/grants", "operator", body)  # a counted one would be used up between the two that are compared


def reopened(house: House) -> None:
    seal(house)
    wiring._open_development_root(house.server.desk, house.server.home)


def later(house: House) -> None:
    house.hands.at += 61 * 1_000_000  # microseconds: every grant has ended


def long_after(house: House) -> None:
    house.hands.at += 6 * 24 * HOUR  # some four of these, and the credential is over


CHANGES: dict[str, Callable[[House], None]] = {
    "rotate": again("rotate"), "suspend": again("suspend"), "resume": again("resume"), "describe": described,
    "forbid": forbid, "permit": permit, "grant": granted, "seal": seal, "reopen": reopened, "later": later,
    "long after": long_after, "forget": lambda house: house.server.desk.keyring.forget_all(),
    "strangers": lambda house: house.server.desk.callers.forget_all(),
}  # fmt: skip
BODIES = {
    "plain": BODY,
    "other": json.dumps({"plaintext": PLAIN, "context": {"ward": "7"}}).encode(),
    "refused": json.dumps({"plaintext": PLAIN, "context": {"ward": "8"}}).encode(),
    "not base64": b'{"plaintext":"!"}',
    "no request": b'{"plaintexts":""}',
}
SCOPES: list[dict[str, list[str]]] = [{}, {"ward": ["7"]}]
STEPS = st.one_of(st.sampled_from([*BODIES]), st.sampled_from([*BODIES]), st.sampled_from([*CHANGES, "revoke"]))


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=16), context=st.sampled_from(SCOPES), batch=st.booleans())
def test_a_repeating_connection_is_told_and_recorded_what_a_fresh_one_is(
    house: House, steps: list[str], context: dict[str, list[str]], batch: bool
) -> None:
    scope = {"operations": ["encrypt"], "keys": ["ward"], "context": context}
    begun = house.hands.at
    identity, token = house.server.issue("prober", "application", json.dumps(scope), ttl=86_400 * 20)
    path = f"{ENCRYPT}/batch" if batch else ENCRYPT
    line = Connection(house, token, path)
    for step in steps:
        if step in CHANGES:
            CHANGES[step](house)
        elif step == "revoke":
            if not house.server.desk.vault.sealed:
                house.ask("POST", "/v1/credentials/{credential}/revoke", "operator", ref=identity)
        else:
            body = b'{"items":[%b,%b]}' % (BODIES["plain"], BODIES[step]) if batch else BODIES[step]
            assert told(house, line, body) == told(house, Connection(house, token, path), body)
    house.hands.at = begun
    later(house)  # what was granted is the principal's, who is the next example's too
    reopened(house)
    permit(house)
    again("resume")(house)


def test_a_node_whose_lease_is_over_does_not_go_by_what_was_before(house: House) -> None:
    shift = 0.0
    lease = Lease(1.0, lambda: steady() + shift)
    house.server.desk.membership = Membership("n", lease, lambda release, _reach: release())
    for _ in range(2):
        lease.renewed(steady())
    line = Connection(house, house.writer)
    for _ in range(3):
        assert line.ask()[0] == 200
    assert line.head.repeat is not None
    line.send()
    shift = 2.0  # between the judgement and the commit
    house.server.store.flush()
    assert line.answers.pop()[0] == 503
    assert told(house, line, BODY) == told(house, Connection(house, house.writer), BODY)
    assert line.ask()[0] == 503


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"thumbprint": b"t"}, False),
        ({"person": True}, False),
        ({"reach": Reach(keys=("*",), operations=("encrypt",))}, False),
    ],
)
def test_whoever_is_known_by_more_than_a_token_is_judged_each_time(house: House, change: dict[str, Any], kept: bool) -> None:
    attempts: list[Attempt] = []
    enqueue = house.server.store.enqueue
    house.server.store.enqueue = lambda unit: (attempts.append(unit), enqueue(unit))[1]  # type: ignore[method-assign, assignment]
    Connection(house, house.writer).ask()
    (attempt,) = attempts
    known = attempt.caller
    attempt.caller = Caller(known.credential, msgspec.structs.replace(known.standing, **change))
    assert repeats.remember(attempt) is None  # by a certificate: nothing was presented that is kept
    attempt.caller.digest = known.digest
    assert (repeats.remember(attempt) is not None) is kept


def test_only_uses_and_new_keys_come_again() -> None:
    assert {op.name for op in BY_PATH.values() if op.on_key and op.changes} & _repeated() == set()
    assert {"encrypt", "data-key", "mac", "key-create"} <= _repeated()


def _repeated() -> set[str]:
    class _Desk:
        stale = None

    return {op.name for op in BY_PATH.values() if repeats._repeatable(_Desk(), op)}  # type: ignore[arg-type]

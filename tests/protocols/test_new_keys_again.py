"""Keys made one after the other over one connection: each is judged by what is in force then, as over a fresh one."""

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
from sqlalchemy import Connection as Connected
from sqlalchemy import select

from keyclave.identity.caller import Caller
from keyclave.operations import repeats
from keyclave.operations.attempt import Attempt
from keyclave.store import schema
from tests.protocols.clocked import HOUR, House, clocked
from tests.protocols.making import KINDS, body, line_of, reopened, seal
from tests.protocols.repeating import Connection

pytestmark = pytest.mark.requirement("R4", "R5", "R8", "R13")
NUMBERS = iter(range(1_000_000))


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


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


def rows(house: House) -> list[list[Any]]:
    """Return the rows of the last two keys, but for what is each one's own."""
    own = {"id", "key_id", "name", "made_in", "kcv", "sealed", "public"}

    def read(conn: Connected) -> list[list[Any]]:
        keys = list(
            conn.execute(select(schema.keys).order_by(schema.keys.c.created_at.desc(), schema.keys.c.id).limit(2)).mappings()
        )
        of = schema.key_versions.c.key_id
        found = [[key, *conn.execute(select(schema.key_versions).where(of == key["id"])).mappings()] for key in keys]
        assert all(key["made_in"] for key in keys)
        return [[{name: value for name, value in row.items() if name not in own} for row in each] for each in found]

    return house.server.store.read(read)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_one_more_of_the_same_is_kept_answered_and_recorded_as_the_first_would_be(
    house: House, maker: Connection, kind: int
) -> None:
    for _ in range(4):
        house.hands.at += 1_234_567
        assert again(house, maker, **KINDS[kind]) == 201
        one, other = rows(house)
        assert one == other
    house.server.desk.keyring.forget_all()
    status, answer = maker.ask(body("last", **KINDS[kind]))
    assert (status, answer["name"]) == (201, "last")
    shown = house.ask("GET", "/v1/keys/{key}", "custodian", ref=answer["id"], expect=200)
    assert {**shown, "event": ""} == {**answer, "event": ""}


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
    """What is about to change is looked for by name: nobody has a new key, and one may be called like whoever asks."""
    use = Connection(house, house.writer)
    for _ in range(3):
        use.ask()
    maker.send(body("writer"))
    repeat = use.head.repeat
    assert repeat is not None and repeat.holds(house.hands.at) and not house.server.desk.pending
    maker.send(body("maker"))
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

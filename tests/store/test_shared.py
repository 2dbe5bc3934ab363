"""Several writers of one file: they take turns, number one log, and keep nothing that rests on what another has changed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyclave.audit.event import Event, decode
from keyclave.store.embedded.groups import GROUP
from keyclave.store.sqlite import SqliteStore
from tests.store.inside import Inside, two_inside
from tests.store.units import Note, keep, kept, new_store, no_gaps, remember, remembered

pytestmark = pytest.mark.file_store("processes that take turns at one file; nodes of PostgreSQL are in tests/cluster")

KEY = {
    "name": "chart", "spec": "aes-256", "purpose": "encrypt", "owner": "o", "environment": "e", "classification": "ePHI",
}  # fmt: skip


# ---- the store ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[SqliteStore, SqliteStore]]:
    one, other = new_store(tmp_path, shared=True), new_store(tmp_path, shared=True)
    yield one, other
    one.close()
    other.close()


@pytest.mark.requirement("P1", "R5")
def test_writers_take_turns_and_number_one_log_without_gaps(stores: tuple[SqliteStore, SqliteStore]) -> None:
    followed: list[list[tuple[int, bytes]]] = [[], []]
    for store, seen in zip(stores, followed, strict=True):
        store.followed_by(lambda first, entries, seen=seen: seen.extend(enumerate(map(bytes, entries), first)), 0)
    for turn in range(6):
        for i in range(turn + 1):
            stores[turn % 2].enqueue(Note(f"t{turn}-{i}", events=1 + i % 2))
        stores[turn % 2].flush()
    assert no_gaps(stores[0])
    for store, seen in zip(stores, followed, strict=True):
        store.catch_up()
        assert [entry.decode() for _, entry in seen] == kept(stores[0])
        assert [number for number, _ in seen] == list(range(len(seen)))


def overtaken(one: SqliteStore, other: SqliteStore) -> tuple[list[list[tuple[str, str]]], Note, Note]:
    """Let two units wait at the other, one of which rests on a key that the first then changes; return what is applied, and both."""
    applied: list[list[tuple[str, str]]] = []
    other.applied_by(applied.append)
    rests, free = Note("rests", rests_on=("key",)), Note("free")
    other.enqueue(rests)
    other.enqueue(free)
    one.enqueue(Note("suspend", act=remember("state", b"suspended"), touches=("key",)))
    one.flush()
    return applied, rests, free


@pytest.mark.requirement("P4", "R24")
def test_a_unit_that_rests_on_what_another_changed_is_left_out_and_begins_again(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one, other = stores
    applied, rests, free = overtaken(one, other)
    other.flush()
    assert applied == [[("t", "key")]]
    assert (rests.told, rests.began_again, free.told) == ([], 1, [None])
    assert [entry.split()[1] for entry in kept(one)] == ["suspend", "free"]
    other.enqueue(Note("later", rests_on=("key",)))
    other.flush()
    assert len(applied) == 1  # once is enough
    assert no_gaps(one)


@pytest.mark.requirement("P4", "R24")
def test_whoever_was_left_out_of_a_group_is_not_kept_when_it_is_tried_again(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one, other = stores
    keep(one, Note("first", adds=("taken",)))
    rests = Note("rests", adds=("rests",), rests_on=("key",))
    refused, free = Note("refused", adds=("taken",)), Note("free", adds=("free",))
    for unit in (rests, refused, free):
        other.enqueue(unit)
    keep(one, Note("change", act=remember("x", b"1"), touches=("key",)))
    other.flush()
    assert (rests.told, rests.began_again, rests.tries) == ([], 1, 0)
    assert refused.refusal is not None and free.told == [None]
    assert remembered(one, "rests") is None and no_gaps(one)
    assert [line.split()[1:] for line in kept(one)] == [["first", "ok"], ["change", "ok"], ["refused", "refused"], ["free", "ok"]]


def test_a_group_of_which_nothing_is_left_keeps_nothing(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one, other = stores
    rests = Note("rests", act=remember("x", b"1"), rests_on=("key",))
    other.enqueue(rests)
    one.enqueue(Note("change", act=remember("y", b"1"), touches=("key",)))
    one.flush()
    other.flush()
    assert (rests.told, rests.began_again, remembered(one, "x")) == ([], 1, None)
    other.enqueue(Note("next"))
    other.flush()
    assert no_gaps(one)
    assert len(kept(one)) == 2


def test_a_refused_change_tells_nobody(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one, other = stores
    applied: list[list[tuple[str, str]]] = []
    other.applied_by(applied.append)
    one.enqueue(Note("first", act=remember("same", b"1"), touches=("a",)))
    one.enqueue(Note("second", act=remember("same", b"2"), touches=("b",)))
    one.flush()
    other.enqueue(Note("x"))
    other.flush()
    assert applied == [[("t", "a")]]


def test_what_a_writer_changed_itself_is_not_news_to_it(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one = stores[0]
    applied: list[list[tuple[str, str]]] = []
    one.applied_by(applied.append)
    for name in ("a", "b"):
        one.enqueue(Note(name, act=remember(name, b"1"), touches=(name,)))
        one.flush()
    assert applied == []


def test_of_two_checkpoints_of_one_size_the_first_stays(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one, other = stores
    one.enqueue(Note("a"))
    one.flush()
    one.keep_checkpoint(1, bytes(32), "of one", 1)
    other.keep_checkpoint(1, bytes(32), "of the other", 2)
    assert other.last_checkpoint() == (1, bytes(32), "of one")


# ---- the desk -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Inside, Inside]]:
    with two_inside(tmp_path) as made:
        yield made


def _events(inside: Inside) -> list[Event]:
    return [decode(entry) for entry in inside.store.read_entries(0, 10_000)]


def _plain(text: bytes) -> dict[str, str]:
    return {"plaintext": base64.b64encode(text).decode()}


@pytest.mark.requirement("P4", "R24", "R22")
def test_a_use_that_waits_for_its_commit_sees_the_suspension_that_was_faster(pair: tuple[Inside, Inside]) -> None:
    one, other = pair
    one.get("key-create", "custodian", "", KEY)
    app = one.application(["encrypt"], ["chart"])
    other.get("encrypt", app, "chart", _plain(b"warm"))
    waiting = other.begin("encrypt", app, "chart", _plain(b"late"))
    one.get("suspend", "custodian", "chart", {"reason": "lost laptop"})
    other.store.flush()  # done over, it commits as a refusal
    assert [attempt.error and attempt.error.code for attempt in waiting] == ["wrong_state"]
    told = [(event.op, event.outcome) for event in _events(one)][-2:]
    assert told == [("suspend", "ok"), ("encrypt", "wrong_state")]


@pytest.mark.requirement("P4", "R22")
def test_a_revoked_credential_is_nobody_on_the_other_at_its_next_commit(pair: tuple[Inside, Inside]) -> None:
    one, other = pair
    one.get("key-create", "custodian", "", KEY)
    scope = {"operations": ["encrypt"], "keys": ["chart"]}
    body = {"principal": "app", "role": "application", "ttl_seconds": 3600, "scope": scope}
    made = one.get("credential-issue", "operator", "", body)
    other.get("encrypt", made["token"], "chart", _plain(b"warm"))
    waiting = other.begin("encrypt", made["token"], "chart", _plain(b"late"))
    one.get("credential-revoke", "operator", made["id"])
    other.store.flush()
    assert [attempt.error and attempt.error.code for attempt in waiting] == ["unauthenticated"]
    assert waiting[0].answer is None


def _mover(inside: Inside) -> dict[str, Any]:
    """Make two keys and issue a credential for both; return what was answered."""
    for name in ("chart", "lab"):
        inside.get("key-create", "custodian", "", {**KEY, "name": name})
    scope = {"operations": ["encrypt", "re-encrypt", "data-key-pair"], "keys": ["chart", "lab"]}
    body = {"principal": "app", "role": "application", "ttl_seconds": 3600, "scope": scope}
    return inside.get("credential-issue", "operator", "", body)


class _Later(Executor):
    """Does slow work when it is told to."""

    def __init__(self) -> None:
        self.work: list[Callable[[], Any]] = []

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self.work.append(partial(fn, *arguments, **named))
        return Future()


@pytest.mark.requirement("P4", "R22")
@pytest.mark.parametrize("use", ["encrypt", "data-key-pair"])
def test_a_use_that_has_a_change_committed_first_sees_the_revocation_that_this_commit_met(
    pair: tuple[Inside, Inside], use: str
) -> None:
    one, other = pair
    made = _mover(one)
    other.get("encrypt", made["token"], "chart", _plain(b"warm"))
    other.desk.workers = later = _Later()
    late = [] if use == "encrypt" else other.begin(use, made["token"], "chart", {"spec": "ed25519"})
    one.get("credential-revoke", "operator", made["id"])
    other.begin("key-update", "custodian", "chart", {"owner": "oncology"}, dry_run=True)  # the key stays what it was
    if use == "encrypt":
        late = other.begin(use, made["token"], "chart", _plain(b"late"))
    for work in later.work:
        work()
    other.store.flush()
    assert [attempt.error and attempt.error.code for attempt in late] == ["unauthenticated"]
    told = [(event.op, event.outcome) for event in _events(one)][-3:]
    assert told == [("credential-revoke", "ok"), ("key-update", "dry_run"), (use, "unauthenticated")]


@pytest.mark.requirement("P4", "R24")
def test_a_use_of_two_keys_sees_what_the_commit_of_the_second_one_s_change_met(pair: tuple[Inside, Inside]) -> None:
    one, other = pair
    made = _mover(one)
    sealed = other.get("encrypt", made["token"], "chart", _plain(b"record"))["ciphertext"]
    asked = {"ciphertext": sealed, "to_key": "lab"}
    other.get("re-encrypt", made["token"], "chart", asked)
    one.get("suspend", "custodian", "chart", {"reason": "lost laptop"})
    other.begin("key-update", "custodian", "lab", {"owner": "oncology"})
    late = other.begin("re-encrypt", made["token"], "chart", asked)
    other.store.flush()
    assert [attempt.error and attempt.error.code for attempt in late] == ["wrong_state"]
    assert late[0].answer is None


def test_a_key_that_was_unknown_here_and_made_there_is_found(pair: tuple[Inside, Inside]) -> None:
    one, other = pair
    assert other.ask("key-read", "operator", "chart").error is not None
    one.get("key-create", "custodian", "", KEY)
    waiting = other.begin("key-read", "operator", "chart")
    other.store.flush()
    assert waiting[0].error is None


@pytest.mark.requirement("R24")
def test_two_rotations_at_once_make_two_versions_and_no_third(pair: tuple[Inside, Inside]) -> None:
    one, other = pair
    one.get("key-create", "custodian", "", KEY)
    other.get("key-read", "operator", "chart")
    late = other.begin("rotate", "operator", "chart")
    one.get("rotate", "operator", "chart")
    other.store.flush()
    assert late[0].error is None
    view = one.get("key-read", "auditor", "chart")
    assert [version["version"] for version in view["versions"]] == [1, 2, 3]
    assert view["primary"] == 3


def test_one_idempotency_key_makes_one_key_whoever_is_asked(pair: tuple[Inside, Inside]) -> None:
    one, other = pair
    second = other.begin("key-create", "custodian", "", KEY, idempotency="same")
    first = one.get("key-create", "custodian", "", KEY, idempotency="same")
    other.store.flush()
    assert second[0].replayed
    assert first["id"].encode() in second[0].answer


@pytest.mark.requirement("R10")
def test_a_tenant_made_there_has_its_keys_here(pair: tuple[Inside, Inside]) -> None:
    one, other = pair
    approval = one.approved("tenant-create", "custodian", "", {"name": "clinic"})
    made = one.get("approval-execute", "custodian", approval)
    other.get("whoami", "auditor")  # its commit meets the change
    tokens = {person["role"]: person["token"] for person in made["results"][0]["answer"]["credentials"]}
    view = other.get("key-create", tokens["custodian"], "", KEY)
    assert view["name"] == "chart"


@pytest.mark.requirement("R40", "P2")
def test_receipts_and_checkpoints_serve_what_the_other_has_kept(pair: tuple[Inside, Inside]) -> None:
    one, other = pair
    event = one.ask("whoami", "auditor").event
    other.desk.log.refresh()
    receipt = other.desk.log.receipt(event)
    assert decode(receipt.leaf).id == event
    one.desk.log.refresh()
    assert one.desk.log.published() == other.desk.log.published()
    for inside in (one, other, one):
        inside.ask("whoami", "auditor")
        inside.desk.log.refresh()
        inside.desk.log.tick()
    other.desk.log.refresh()
    assert one.desk.log.size == other.desk.log.size == other.desk.log.checkpoint[0]
    assert one.desk.log.root_at(one.desk.log.size) == other.desk.log.root_at(one.desk.log.size)
    sizes = one.desk.log.sizes(0, 100)
    assert sizes == sorted(set(sizes))


@pytest.mark.requirement("P4", "R24")
def test_what_waits_for_a_later_group_is_left_out_with_the_first(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one, other = stores
    first, later = [Note(f"free-{i}") for i in range(GROUP)], Note("rests", rests_on=("key",))
    for note in (*first, later):
        other.enqueue(note)
    one.enqueue(Note("suspend", act=remember("state", b"suspended"), touches=("key",)))
    one.flush()
    other.flush()
    assert (later.told, later.began_again) == ([], 1)
    assert all(note.told == [None] for note in first)
    assert no_gaps(one)


def test_a_writer_meets_the_others_without_keeping_anything(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one, other = stores
    applied, rests, free = overtaken(one, other)
    other.meet_others()
    assert (applied, rests.began_again, free.told) == ([[("t", "key")]], 1, [])
    other.flush()
    assert (len(applied), rests.told, free.told) == (1, [], [None])
    assert no_gaps(one)


def test_what_others_keep_between_opening_and_following_is_followed_once(stores: tuple[SqliteStore, SqliteStore]) -> None:
    one, other = stores
    one.enqueue(Note("early"))
    one.flush()  # the other was opened before this
    seen = [bytes(entry) for entry in other.read_entries(0, 10)]  # as the log reads what is there
    other.followed_by(lambda _first, entries: seen.extend(map(bytes, entries)), len(seen))
    one.enqueue(Note("late"))
    one.flush()
    other.enqueue(Note("own"))
    other.flush()
    assert [entry.decode() for entry in seen] == kept(one)


@pytest.mark.requirement("R22")
def test_the_limit_of_a_key_version_is_one_for_all_to_within_a_block_each(pair: tuple[Inside, Inside]) -> None:
    for inside in pair:
        inside.desk.block, inside.desk.keyring._limit = 10, 100
    pair[0].get("key-create", "custodian", "", KEY)
    app = pair[0].application(["encrypt"], ["chart"])
    outcomes = []
    for turn in range(200):
        attempt = pair[turn % 2].ask("encrypt", app, "chart", _plain(b"x"))
        outcomes.append("ok" if attempt.error is None else attempt.error.code)
    done = outcomes.count("ok")
    assert 100 - 2 * 10 <= done <= 100 + 2 * 10
    assert set(outcomes[done + 20 :]) == {"limit_reached"}

"""A lost commit as callers meet it: refused for everybody, nothing half done in memory, and repeated safely under the same
idempotency key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyclave.core.errors import Unauthenticated, Unavailable, WrongState
from keyclave.identity.peer import Peer
from keyclave.operations.unseal import UnsealRequest, close_house, offer_share
from tests.store.inside import Inside, new_inside
from tests.store.units import FULL, Wire, wired

pytestmark = [
    pytest.mark.requirement("P1", "R5"),
    pytest.mark.file_store("what the desk makes of a disk that is full or fails under SQLite"),
]
USES = ["encrypt", "decrypt"]
TEXT = "cmVjb3Jk"


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    with new_inside(tmp_path) as made:
        made.get("key-create", "custodian", "", {"name": "k", "owner": "o"})
        yield made


@pytest.fixture
def wire(inside: Inside) -> Wire:
    return wired(inside.store)


def lose(wire: Wire, *, persisted: bool) -> None:
    """Plan the loss of the next commit."""
    (wire.fail_after if persisted else wire.fail)["COMMIT"] = [sqlite3.OperationalError(FULL)]


BOTH = pytest.mark.parametrize("persisted", [False, True], ids=["did nothing", "persisted"])


@BOTH
def test_a_use_is_not_answered_and_the_next_one_is(inside: Inside, wire: Wire, persisted: bool) -> None:
    app = inside.application(USES, ["k"])
    lose(wire, persisted=persisted)
    lost = inside.ask("encrypt", app, "k", {"plaintext": TEXT})
    assert isinstance(lost.error, Unavailable)
    assert (lost.answer, lost.event) == (None, "")
    made = inside.get("encrypt", app, "k", {"plaintext": TEXT})
    assert inside.get("decrypt", app, "k", {"ciphertext": made["ciphertext"]})["plaintext"] == TEXT


@BOTH
def test_a_rotation_is_made_once_by_whoever_repeats_it(inside: Inside, wire: Wire, persisted: bool) -> None:
    app = inside.application(USES, ["k"])
    inside.get("encrypt", app, "k", {"plaintext": TEXT})  # in memory with version 1
    lose(wire, persisted=persisted)
    assert isinstance(inside.ask("rotate", "operator", "k", {}, idempotency="turn").error, Unavailable)
    assert inside.get("encrypt", app, "k", {"plaintext": TEXT})["version"] == (2 if persisted else 1)
    again = inside.ask("rotate", "operator", "k", {}, idempotency="turn")
    assert (again.error, again.replayed) == (None, persisted)
    assert inside.get("encrypt", app, "k", {"plaintext": TEXT})["version"] == 2
    assert len(inside.get("key-read", "custodian", "k")["versions"]) == 2


@BOTH
@pytest.mark.parametrize("taken", [False, True], ids=["all new", "one name taken"])
def test_new_keys_of_a_group_are_all_there_if_it_persisted_and_none_if_it_did_nothing(
    inside: Inside, wire: Wire, persisted: bool, taken: bool
) -> None:
    """Nobody was told which; whoever repeats finds out. With a taken name the loss meets the group that was begun again."""
    names = ["a", "b", "k" if taken else "c", "d"]
    lose(wire, persisted=persisted)
    answers = [inside.begin("key-create", "custodian", "", {"name": name, "owner": "o"}) for name in names]
    inside.store.flush()
    assert [type(one.error) for (one,) in answers] == [Unavailable] * 4
    assert all((one.answer, one.event) == (None, "") for (one,) in answers)
    again = [inside.ask("key-create", "custodian", "", {"name": name, "owner": "o"}) for name in names]
    assert [one.error is None for one in again] == [not persisted and name != "k" for name in names]
    app = inside.application(USES, ["*"])
    for name in names:
        sealed = inside.get("encrypt", app, name, {"plaintext": TEXT})["ciphertext"]
        assert inside.get("decrypt", app, name, {"ciphertext": sealed})["plaintext"] == TEXT


def test_a_key_that_was_never_made_leaves_nothing_waiting(inside: Inside, wire: Wire) -> None:
    """The disk is full before the group has begun: the next key must not be made together with those that were refused."""
    wire.fail["BEGIN"] = [sqlite3.OperationalError(FULL)]
    answers = [inside.begin("key-create", "custodian", "", {"name": name, "owner": "o"}) for name in "ab"]
    assert len(inside.desk.new_keys) == 2
    inside.store.flush()
    assert [type(one.error) for (one,) in answers] == [Unavailable] * 2
    assert inside.desk.new_keys == {} and not inside.desk.pending


@BOTH
def test_a_suspension_holds_if_it_persisted_and_not_if_it_did_nothing(inside: Inside, wire: Wire, persisted: bool) -> None:
    app = inside.application(USES, ["k"])
    inside.get("encrypt", app, "k", {"plaintext": TEXT})
    lose(wire, persisted=persisted)
    assert isinstance(inside.ask("suspend", "operator", "k", {"reason": "r"}).error, Unavailable)
    error = inside.ask("encrypt", app, "k", {"plaintext": TEXT}).error
    assert isinstance(error, WrongState) if persisted else error is None


@BOTH
def test_a_revocation_holds_if_it_persisted_and_not_if_it_did_nothing(inside: Inside, wire: Wire, persisted: bool) -> None:
    app = inside.application(USES, ["k"])
    credential = inside.get("whoami", app)["credential"]
    lose(wire, persisted=persisted)
    assert isinstance(inside.ask("credential-revoke", "operator", credential).error, Unavailable)
    if persisted:
        with pytest.raises(Unauthenticated):
            inside.ask("whoami", app)
    else:
        assert inside.ask("whoami", app).error is None


@BOTH
def test_a_whole_group_is_refused_and_the_log_goes_on_where_the_disk_ends(inside: Inside, wire: Wire, persisted: bool) -> None:
    app = inside.application(USES, ["k"])
    size = inside.desk.log.size
    group = [inside.begin("encrypt", app, "k", {"plaintext": TEXT}) for _ in range(5)]
    group.append(inside.begin("key-create", "custodian", "", {"name": "with-the-others", "owner": "o"}))
    lose(wire, persisted=persisted)
    inside.store.flush()
    assert all(len(answers) == 1 and isinstance(answers[0].error, Unavailable) for answers in group)
    assert inside.desk.log.size == size + (6 if persisted else 0)
    assert inside.ask("whoami", app).event == f"{inside.store.node}-{inside.desk.log.size - 1}"
    inside.desk.log.tick()
    assert inside.desk.log.root_at(inside.desk.log.size) == inside.desk.log.checkpoint[1]  # type: ignore[index]


@BOTH
def test_the_uses_of_a_version_are_never_under_counted(inside: Inside, wire: Wire, persisted: bool) -> None:
    """The first use accounts for a block of uses: with its commit lost, the next use must account for them itself."""
    app = inside.application(USES, ["k"])
    lose(wire, persisted=persisted)
    assert isinstance(inside.ask("encrypt", app, "k", {"plaintext": TEXT}).error, Unavailable)
    inside.get("encrypt", app, "k", {"plaintext": TEXT})
    (used,) = inside.store.line.raw.execute("SELECT used FROM key_versions").fetchone()
    assert used >= inside.desk.block


def test_sealing_wipes_the_keys_even_if_nothing_can_be_written(inside: Inside, wire: Wire) -> None:
    wire.fail["BEGIN"] = [sqlite3.OperationalError(FULL)] * 100
    inside.ask("seal", "operator")
    assert inside.desk.vault.sealed
    assert inside.desk.keyring._tenants == {}
    wire.fail.clear()
    inside.unseal()
    assert inside.ask("whoami", "operator").error is None


def test_an_unsealing_that_cannot_be_recorded_does_not_happen(inside: Inside, wire: Wire) -> None:
    close_house(inside.desk)
    answers: list[object] = []
    offer_share(inside.desk, Peer("127.0.0.1"), UnsealRequest(share=inside.shares[0]), answers.append)
    inside.store.flush()
    lose(wire, persisted=False)
    offer_share(inside.desk, Peer("127.0.0.1"), UnsealRequest(share=inside.shares[1]), answers.append)
    inside.store.flush()
    assert isinstance(answers[1].error, Unavailable)  # type: ignore[attr-defined]
    assert inside.desk.vault.sealed
    inside.unseal()
    assert not inside.desk.vault.sealed


def test_no_checkpoint_is_lost_with_its_tiles_when_it_cannot_be_kept(inside: Inside, wire: Wire) -> None:
    app = inside.application(USES, ["k"])
    for _ in range(300):
        inside.begin("whoami", app)
    inside.store.flush()
    wire.fail["COMMIT"] = [sqlite3.OperationalError(FULL)]
    with pytest.raises(Unavailable):
        inside.desk.log.tick()
    before = inside.store.last_checkpoint()
    inside.desk.log.tick()
    after = inside.store.last_checkpoint()
    assert after is not None
    assert before is None or before[0] < after[0]
    assert after[0] == inside.desk.log.size
    assert inside.store.last_tile() == 1


def test_a_checkpoint_that_persisted_though_its_commit_failed_stops_nothing(inside: Inside, wire: Wire) -> None:
    app = inside.application(USES, ["k"])
    for _ in range(300):
        inside.begin("whoami", app)
    inside.store.flush()
    wire.fail_after["COMMIT"] = [sqlite3.OperationalError(FULL)]
    with pytest.raises(Unavailable):
        inside.desk.log.tick()
    inside.desk.log.tick()
    inside.ask("whoami", app)
    inside.desk.log.tick()
    kept = inside.store.last_checkpoint()
    assert kept is not None
    assert (kept[0], inside.store.last_tile()) == (inside.desk.log.size, 1)

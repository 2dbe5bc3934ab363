"""The suite notices when a guard is missing: each one is taken out, and the tests that are about it must then fail.

A guard that no test misses might as well not be there. What is taken out here: retries, isolation, turns, the care for lost commits,
the checks at the start, and on SQLite what keeps one process from resting on what another has changed. Triggers, CHECKs, references
and uniqueness of every table are taken out by test_rules.py, the leases and fences of nodes by tests/cluster/test_mutations.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keyclave.store import versions
from keyclave.store.embedded.fence import Fence
from keyclave.store.pg import checks, journal, outcome, transactions
from keyclave.store.pg import faults as pg_faults
from keyclave.store.pg.address import read_address
from keyclave.store.pg.lane import Lane, Unconfirmed
from keyclave.store.postgres import PostgresStore
from tests.postgres import Database, new_database
from tests.store import test_postgres_faults as faults
from tests.store import test_postgres_start as start
from tests.store import test_shared as shared
from tests.store.proxy import Proxy, before
from tests.store.units import new_store

pytestmark = pytest.mark.requirement("R5", "R6", "R10")

Case = Callable[[], object]


def fails(*cases: Case) -> bool:
    """Tell whether at least one of these tests fails."""
    for case in cases:
        try:
            case()
        except (AssertionError, pytest.fail.Exception):
            return True
    return False


# ---- the store's own care -------------------------------------------------------------------------------------------------
@contextmanager
def behind_a_wire(tmp_path: Path, way: str) -> Iterator[tuple[PostgresStore, Proxy]]:
    with new_database() as database, before(f"{database.server.folder}/.s.PGSQL.{database.server.port}", tmp_path) as wire:
        url = f"postgresql://keyclave_app@/{database.name}?host={wire.host}&port={wire.port}"
        loop = asyncio.new_event_loop() if way == "loop" else None
        store = PostgresStore(read_address(url), "0badcafe", loop=loop)
        try:
            yield store, wire
        finally:
            store.close()
            if loop is not None:
                loop.close()


Patch = pytest.MonkeyPatch


def no_retry(patch: Patch) -> None:
    patch.setattr(transactions, "TRIES", 1)


def no_isolation(patch: Patch) -> None:
    patch.setattr(transactions, "BEGIN_WRITE", "BEGIN")


RACES = 8


def no_turns(patch: Patch) -> None:
    patch.setattr(journal, "BEGIN_CHANGE", "BEGIN")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that is how it fails
@pytest.mark.parametrize(("mutate", "how"), [(no_retry, "write"), (no_isolation, "write"), (no_turns, "units")])
def test_retry_and_isolation_are_missed(monkeypatch: Patch, mutate: Callable[[Patch], None], how: str) -> None:
    mutate(monkeypatch)
    for _ in range(RACES):  # what is lost in a race is lost only where there was one
        with new_database() as database:
            try:
                failed = fails(lambda: faults.test_of_what_two_nodes_change_at_once_nothing_is_lost(database, how))
            except Exception:
                failed = True
        if failed:
            return
    pytest.fail(f"{RACES} races, and nothing was missed")


def nothing_is_resolved(patch: Patch) -> None:
    def unknown(*_: object) -> None:
        raise pg_faults.unavailable()

    patch.setattr(outcome, "resolve", unknown)


def everything_is_believed(patch: Patch) -> None:
    patch.setattr(outcome, "resolve", lambda *_: None)


def late_rows_are_not_met(patch: Patch) -> None:
    patch.setattr(outcome, "took_our_number", lambda fault: False)


@pytest.mark.parametrize(
    ("mutate", "test"),
    [
        (nothing_is_resolved, faults.test_a_use_whose_commit_was_cut_off_after_it_happened_is_answered),
        (nothing_is_resolved, lambda store, wire, _: faults.test_a_change_whose_commit_was_cut_off_after_it_happened_is_answered(store, wire)),
        (everything_is_believed, lambda *given: faults.test_what_never_arrived_is_told_as_unknown_and_is_not_there(*given, b"", None)),
        (late_rows_are_not_met, faults.test_a_late_commit_that_comes_first_takes_its_number),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", faults.ROWS)
def test_the_care_for_lost_commits_is_missed(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: Patch,
    mutate: Callable[[Patch], None],
    test: Callable[..., object],
    way: str,
) -> None:
    with behind_a_wire(tmp_path_factory.mktemp("w"), way) as (store, wire):
        mutate(monkeypatch)
        late = mutate is late_rows_are_not_met
        if late:
            monkeypatch.setattr(journal.Journal, "_look_again", lambda self, conn: setattr(self, "unsure", False))
        assert fails(lambda: test(store, wire, faults.ROWS[way]))
        monkeypatch.undo()


@pytest.mark.parametrize("way", faults.ROWS)
def test_the_disbelief_of_warnings_is_missed(database: Database, monkeypatch: Patch, way: str) -> None:
    over = Lane._over
    monkeypatch.setattr(journal, "durably", lambda driver, statement, parameters: driver.execute(statement, parameters))
    monkeypatch.setattr(Lane, "_over", lambda self, fault: over(self, None if isinstance(fault, Unconfirmed) else fault))
    loop = asyncio.new_event_loop() if way == "loop" else None
    store = PostgresStore(read_address(database.url()), "0badcafe", loop=loop)
    assert fails(lambda: faults.test_a_commit_with_a_warning_is_not_believed(store, database))
    store.close()
    if loop is not None:
        loop.close()


@pytest.mark.parametrize(
    ("holder", "name", "test"),
    [
        (versions, "check", lambda database: start.test_a_schema_too_old_or_too_new_is_refused(database, "9999", "9999", "too new")),
        (versions, "check", lambda database: start.test_a_schema_too_old_or_too_new_is_refused(database, "0001", "0001", "too old")),
        (checks, "_check_privileges", start.test_the_owner_is_no_user_for_a_server),
        (checks, "_check_privileges", lambda database: start.test_a_missing_right_is_named(database, "INSERT", "journal")),
        (checks, "check_cluster", start.test_the_database_of_another_installation_is_refused),
        (checks, "check_server", lambda database: start.test_what_takes_no_writes_or_forgets_them_is_refused(database, "synchronous_commit = off", "synchronous_commit is off")),
    ],
)  # fmt: skip
def test_the_checks_at_the_start_are_missed(
    database: Database, monkeypatch: Patch, holder: Any, name: str, test: Callable[[Database], object]
) -> None:
    monkeypatch.setattr(holder, name, lambda *_, **__: None)
    assert fails(lambda: test(database))


# ---- several processes on one file ----------------------------------------------------------------------------------------
def nothing_is_met(patch: Patch) -> None:
    patch.setattr(Fence, "meet", lambda self, group, queue: (group, queue))


def nobody_is_left_out(patch: Patch) -> None:
    patch.setattr(Fence, "_leave_out", lambda self, units, names: units)


def nobody_is_told(patch: Patch) -> None:
    patch.setattr(Fence, "tell", lambda self, group: 0)


@pytest.mark.parametrize("mutate", [nothing_is_met, nobody_is_left_out, nobody_is_told])
def test_the_fence_between_processes_of_one_file_is_missed(
    tmp_path: Path, monkeypatch: Patch, mutate: Callable[[Patch], None]
) -> None:
    mutate(monkeypatch)
    stores = new_store(tmp_path, shared=True), new_store(tmp_path, shared=True)
    assert fails(lambda: shared.test_a_unit_that_rests_on_what_another_changed_is_left_out_and_begins_again(stores))
    for store in stores:
        store.close()

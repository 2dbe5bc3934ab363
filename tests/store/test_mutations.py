"""The suite notices when a guard is missing: each one is taken out, and the tests that are about it must then fail.

A guard that no test misses might as well not be there. What is taken out: every trigger and every CHECK of the core tables on both
engines, retries, isolation, the resolution of lost commits, the checks at the start.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import CheckConstraint

from keyclave.keys.states import GONE, State
from keyclave.store import postgres as code
from keyclave.store import schema, versions
from keyclave.store.pg import checks
from keyclave.store.pg.address import read_address
from keyclave.store.pg.guards import Guard, guards
from keyclave.store.pg.lane import Lane, Unconfirmed
from keyclave.store.postgres import PostgresStore
from tests.postgres import Database, new_database
from tests.store import test_guards as on_sqlite
from tests.store import test_postgres_faults as faults
from tests.store import test_postgres_guards as on_postgres
from tests.store import test_postgres_start as start
from tests.store.proxy import Proxy, before
from tests.store.units import new_store

pytestmark = pytest.mark.requirement("R5", "R6", "R10")

Case = Callable[[], object]
CORE = (schema.key_versions, schema.keys, schema.principals, schema.tenant_keys, schema.segments, schema.log_tiles)


def fails(*cases: Case) -> bool:
    """Tell whether at least one of these tests fails."""
    for case in cases:
        try:
            case()
        except (AssertionError, pytest.fail.Exception):
            return True
    return False


def parameters(test: Callable[..., object]) -> list[Any]:
    """Return the rows that a test is parametrised over."""
    return next(list(mark.args[1]) for mark in test.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]


def half_gone(version: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return versions that are destroyed by halves: material without a state that has any, or the other way round."""
    for state in State:
        for sealed, date in ((b"m", None), (None, 2), (b"m", 2), (None, None)):
            if (sealed is None, date is not None) != (state in GONE, state in GONE):
                yield {**version, "number": 2, "is_primary": False, "state": state.value, "sealed": sealed, "destroyed_at": date}


# ---- PostgreSQL: triggers and checks --------------------------------------------------------------------------------------
@contextmanager
def rows_of(database: Database) -> Iterator[on_postgres.Raw]:
    made = on_postgres.rows.__wrapped__(database)  # type: ignore[attr-defined]
    yield next(made)
    made.close()


def _tests_of(guard: Guard, database: Database) -> list[Case]:
    verb = guard.when.split()[0]
    if guard.why.endswith("is append-only"):
        return [lambda: on_postgres.test_the_record_is_append_only_whoever_asks(database, guard.table, verb)]
    if guard.why.endswith("keeps its history"):
        statement = {"DELETE": "DELETE FROM {}", "TRUNCATE": "TRUNCATE {} CASCADE"}[verb]
        return [lambda: on_postgres.test_history_is_not_deleted(database, guard.table, statement)]
    with_rows: dict[str, list[Callable[[on_postgres.Raw], object]]] = {
        "key_versions": [
            lambda rows, gone=gone: on_postgres.test_a_destroyed_version_stays_destroyed(rows, gone) for gone in GONE
        ],  # type: ignore[misc]
        "keys": [on_postgres.test_that_stale_use_was_allowed_once_is_not_forgotten],
        "approvals": [on_postgres.test_what_was_asked_for_stays_as_asked_ends_once_and_is_signed_by_others],
        "approval_signatures": [on_postgres.test_what_was_asked_for_stays_as_asked_ends_once_and_is_signed_by_others],
        "segments": [lambda rows: on_postgres.test_neither_the_log_nor_a_journal_has_a_gap(rows, 5)],
        "journal": [lambda rows: on_postgres.test_neither_the_log_nor_a_journal_has_a_gap(rows, 5)],
    }

    def run(test: Callable[[on_postgres.Raw], object]) -> None:
        with rows_of(database) as rows:
            test(rows)

    return [lambda test=test: run(test) for test in with_rows[guard.table]]  # type: ignore[misc]


@pytest.mark.parametrize("guard", guards(), ids=lambda guard: guard.name)
def test_every_trigger_on_postgresql_is_missed(database: Database, guard: Guard) -> None:
    with database.connect() as conn:
        conn.execute(f"DROP TRIGGER {guard.name} ON {guard.table}")
        others = f"SELECT tgname FROM pg_trigger WHERE tgrelid = '{guard.table}'::regclass AND NOT tgisinternal"
        assert guard.name not in {row[0] for row in conn.execute(others)}
    assert fails(*_tests_of(guard, database))


CHECKS = [
    (table.name, str(constraint.name))
    for table in (*CORE, schema.metadata.tables["journal"], schema.metadata.tables["change_counter"])
    for constraint in sorted(table.constraints, key=lambda one: str(one.name))
    if isinstance(constraint, CheckConstraint) and constraint.name != "ck_journal_first"  # the guard against gaps comes first
]


@pytest.mark.parametrize(("table", "name"), CHECKS)
def test_every_check_on_postgresql_is_missed(database: Database, table: str, name: str) -> None:
    with rows_of(database) as rows:
        rows.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")

        cases: list[Case] = [
            lambda row=row: on_postgres.test_a_row_that_breaks_a_rule_is_not_taken(rows, table, row)  # type: ignore[misc]
            for of, row in parameters(on_postgres.test_a_row_that_breaks_a_rule_is_not_taken)
            if of == table
        ]
        if table == "key_versions":
            refuse = on_postgres.test_a_row_that_breaks_a_rule_is_not_taken
            cases += [lambda row=row: refuse(rows, table, row) for row in half_gone(on_postgres.PG_VERSION)]  # type: ignore[misc]
        assert fails(*cases)


# ---- SQLite: triggers and checks ------------------------------------------------------------------------------------------
@contextmanager
def sqlite_rows(folder: Path, mutate: str, old: str = "", new: str = "") -> Iterator[Any]:
    """A database with rows, of which one guard was taken out."""
    store = new_store(folder)
    if old:
        store._raw.execute("PRAGMA writable_schema = ON")
        store._raw.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = ?", (old, new, mutate))
        store._raw.execute("PRAGMA writable_schema = RESET")
        store.close()
        store = new_store(folder)
    else:
        store._raw.execute(f"DROP TRIGGER {mutate}")
    made = on_sqlite.rows.__wrapped__(store)  # type: ignore[attr-defined]
    yield next(made)
    store.close()


def _sqlite_tests(trigger: str) -> list[Callable[[Any], object]]:
    table = trigger.split("_no_", maxsplit=1)[0] if "_no_" in trigger else ""
    found: list[Callable[[Any], object]] = [
        lambda rows, statement=statement: on_sqlite.test_the_record_is_append_only(rows, statement)  # type: ignore[misc]
        for statement in parameters(on_sqlite.test_the_record_is_append_only)
        if re.search(rf"\b{table}\b", statement)
    ]
    if trigger == "segments_no_gap":
        return [lambda rows: on_sqlite.test_a_segment_that_leaves_a_gap_or_overlaps_is_not_taken(rows, 5)]
    if trigger == "key_versions_stay_gone":
        return [lambda rows, gone=gone: on_sqlite.test_a_destroyed_version_stays_destroyed(rows, gone) for gone in GONE]  # type: ignore[misc]
    if trigger == "keys_remember_stale":
        return [on_sqlite.test_that_stale_use_was_allowed_once_is_not_forgotten]
    if not found:
        return [lambda rows: on_sqlite.test_history_is_not_deleted(rows, table, "DELETE FROM {}")]
    return found


SQLITE_TRIGGERS = [
    f"{table}_no_{verb}" for table in ("segments", "log_tiles", "checkpoints") for verb in ("update", "delete")
] + [
    *(f"{table}_no_delete" for table in ("keys", "key_versions", "credentials", "principals", "tenants")),
    "segments_no_gap", "key_versions_stay_gone", "keys_remember_stale",
]  # fmt: skip


@pytest.mark.parametrize("trigger", SQLITE_TRIGGERS)
def test_every_trigger_on_sqlite_is_missed(tmp_path: Path, trigger: str) -> None:
    def run(number: int, test: Callable[[Any], object]) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        with sqlite_rows(folder, trigger) as rows:
            test(rows)

    assert fails(*(lambda n=n, test=test: run(n, test) for n, test in enumerate(_sqlite_tests(trigger))))  # type: ignore[misc]


@pytest.mark.parametrize(("table", "name"), [one for one in CHECKS if one[0] not in ("journal", "change_counter")])
def test_every_check_on_sqlite_is_missed(tmp_path: Path, table: str, name: str) -> None:
    constraint = next(c for c in schema.metadata.tables[table].constraints if str(c.name) == name)
    assert isinstance(constraint, CheckConstraint)
    said = f"CONSTRAINT {name} CHECK ({constraint.sqltext})"
    with sqlite_rows(tmp_path, table, said, f"CONSTRAINT {name} CHECK (1)") as rows:
        cases: list[Case] = [
            lambda row=row: on_sqlite.test_a_row_that_breaks_a_rule_is_not_taken(rows, table, row)  # type: ignore[misc]
            for of, row in parameters(on_sqlite.test_a_row_that_breaks_a_rule_is_not_taken)
            if of == table
        ]
        if table == "key_versions":
            refuse = on_sqlite.test_a_row_that_breaks_a_rule_is_not_taken
            cases += [lambda row=row: refuse(rows, table, row) for row in half_gone(on_sqlite.VERSION)]  # type: ignore[misc]
        assert fails(*cases)


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
    patch.setattr(code, "TRIES", 1)


def no_isolation(patch: Patch) -> None:
    patch.setattr(code, "_BEGIN_WRITE", "BEGIN")


def no_turns(patch: Patch) -> None:
    patch.setattr(code, "_BEGIN", "BEGIN")


@pytest.mark.parametrize(("mutate", "how"), [(no_retry, "write"), (no_isolation, "write"), (no_turns, "units")])
def test_retry_and_isolation_are_missed(
    database: Database, monkeypatch: Patch, mutate: Callable[[Patch], None], how: str
) -> None:
    mutate(monkeypatch)
    try:
        failed = fails(lambda: faults.test_of_what_two_nodes_change_at_once_nothing_is_lost(database, how))
    except Exception:
        failed = True
    assert failed


def nothing_is_resolved(patch: Patch) -> None:
    def unknown(*_: object) -> None:
        raise code.faults.unavailable()

    patch.setattr(PostgresStore, "_resolve", unknown)


def everything_is_believed(patch: Patch) -> None:
    patch.setattr(PostgresStore, "_resolve", lambda *_: None)


def late_rows_are_not_met(patch: Patch) -> None:
    patch.setattr(code, "_took_our_number", lambda fault: False)


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
            monkeypatch.setattr(PostgresStore, "_look_again", lambda self, conn: setattr(self, "_unsure", False))
        assert fails(lambda: test(store, wire, faults.ROWS[way]))
        monkeypatch.undo()


@pytest.mark.parametrize("way", faults.ROWS)
def test_the_disbelief_of_warnings_is_missed(database: Database, monkeypatch: Patch, way: str) -> None:
    over = Lane._over
    monkeypatch.setattr(code, "_durably", lambda driver, statement, parameters: driver.execute(statement, parameters))
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

"""Every rule of the schema, on both engines: what breaks it is not taken, and would be if that one rule were taken out.

The second half is the suite watching itself: a CHECK, a reference, a uniqueness or a trigger that no row here misses might as well
not be there. Each database is made once; a rule is taken out of a copy in memory (SQLite) or inside a transaction that is undone
(PostgreSQL).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint

from keyclave.store import schema
from keyclave.store.pg.guards import guards
from tests.postgres import new_database
from tests.store.rules import BREAKS, FIRST, FULL, NEEDS, Row, another
from tests.store.units import new_store

pytestmark = pytest.mark.requirement("R5", "R6", "R10", "R13", "R31", "R33")

TABLES = {table.name: table for table in schema.metadata.sorted_tables}
REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError)


class Missed(AssertionError):
    """A row was taken that a rule forbids, or was refused by another rule."""


# ---- the two engines --------------------------------------------------------------------------------------------------------
class OnSqlite:
    """A database in memory for each use, made by the very statements that the migrations leave in a file."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        store = new_store(folder)
        query = "SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        self.made: list[tuple[str, str, str]] = store.line.raw.execute(query).fetchall()
        store.close()
        with self._made_without("", set()) as conn:
            self.whole = conn.serialize()

    @contextmanager
    def without(self, table: str, *names: str) -> Iterator[sqlite3.Connection]:
        """Lend the database with every first row, without some rules of a table."""
        if names:
            with self._made_without(table, set(names)) as conn:
                yield conn
            return
        conn = sqlite3.connect(":memory:", isolation_level=None)
        conn.deserialize(self.whole)
        conn.execute("PRAGMA foreign_keys = ON")
        yield conn
        conn.close()

    @contextmanager
    def _made_without(self, table: str, left: set[str]) -> Iterator[sqlite3.Connection]:
        conn = sqlite3.connect(":memory:", isolation_level=None)
        conn.execute("PRAGMA foreign_keys = ON")
        for name, kind, sql in self.made:
            if name in left and kind in ("trigger", "index"):
                left.remove(name)
            elif name == table and kind == "table" and left:
                kept, gone = _out_of(sql, left)
                left -= gone
                conn.execute(kept)
            else:
                conn.execute(sql)
        assert not left, f"{left} cannot be taken out, for it is not there"
        conn.execute("INSERT INTO change_counter (id, n) VALUES (1, 0)")
        for of, row in FIRST.items():
            insert(conn, of, row)
        yield conn
        conn.close()


class OnPostgres:
    """One database for all; what is done in it is undone."""

    name = "postgresql"

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        for table, row in FIRST.items():
            insert(conn, table, row)

    @contextmanager
    def without(self, table: str, *names: str) -> Iterator[psycopg.Connection[Any]]:
        """Lend the database with every first row, without some rules of a table."""
        with self.conn.transaction(force_rollback=True):
            for name in names:
                if name in {guard.name for guard in guards()}:
                    self.conn.execute(f"DROP TRIGGER {name} ON {table}")
                elif name in {index.name for index in TABLES[table].indexes}:
                    self.conn.execute(f"DROP INDEX {name}")
                else:
                    self.conn.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
            yield self.conn


Engine = OnSqlite | OnPostgres


def _out_of(sql: str, names: set[str]) -> tuple[str, set[str]]:
    """Return the statement that makes a table, with rules that hold for everything in place of some, and which those were."""
    gone = set()
    for name in names:
        found = re.search(rf"CONSTRAINT {name} (CHECK|UNIQUE|FOREIGN KEY)\s*\(", sql)
        if found is None:
            continue
        end = _closed(sql, found.end())
        reference = re.match(r"\s*REFERENCES \w+\s*\(", sql[end:])
        if reference is not None:
            end = _closed(sql, end + reference.end())
        sql = f"{sql[: found.start()]}CHECK (1){sql[end:]}"
        gone.add(name)
    return sql, gone


def _closed(sql: str, at: int) -> int:
    """Return where the bracket ends that was opened before `at`."""
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(sql[at], 0)
        at += 1
    return at


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> OnSqlite:
    return OnSqlite(tmp_path_factory.mktemp("rules"))


@pytest.fixture(scope="module")
def on_postgres() -> Iterator[OnPostgres]:
    with new_database() as database, database.connect() as conn:
        yield OnPostgres(conn)


@pytest.fixture(scope="module", params=("on_sqlite", "on_postgres"))
def engine(request: pytest.FixtureRequest) -> Engine:
    made: Engine = request.getfixturevalue(request.param)
    return made


def insert(conn: Any, table: str, row: Row) -> None:
    mark = "?" if isinstance(conn, sqlite3.Connection) else "%s"
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join(mark for _ in row)
    conn.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def refuse(conn: Any, table: str, row: Row, said: str) -> None:
    """Insert a row that must be refused, for the reason that is `said`."""
    try:
        insert(conn, table, row)
    except REFUSED as fault:
        if said not in str(fault):
            raise Missed(f"another rule refused it: {fault}") from fault
        return
    raise Missed(f"it was taken: {table} {row}")


def is_missed(engine: Engine, table: str, row: Row, said: str, *names: str) -> bool:
    """Tell whether the row is taken once these rules are out; refused for another reason it would show nothing."""
    with engine.without(table, *names) as conn:
        _prepare(conn, table)
        try:
            insert(conn, table, row)
        except REFUSED as fault:
            assert said not in str(fault), "the rule is still there"
            raise
        return True


def _prepare(conn: Any, table: str) -> None:
    if table in NEEDS:
        insert(conn, NEEDS[table], another(NEEDS[table]))


# ---- rules on rows ------------------------------------------------------------------------------------------------------------
def constraints(kind: type[Any]) -> list[tuple[str, Any]]:
    """Return (table, constraint) of a kind, in a fixed order."""
    found = [(table.name, one) for table in TABLES.values() for one in table.constraints if isinstance(one, kind)]
    return sorted(found, key=lambda one: str(one[1].name))


CHECKS = [
    (table, str(one.name), number)
    for table, one in constraints(CheckConstraint)
    for number, _ in enumerate(BREAKS[str(one.name)])
]
UNIQUE = [(table, str(one.name), [column.name for column in one.columns]) for table, one in constraints(UniqueConstraint)] + [
    (table.name, str(index.name), [column.name for column in index.columns])
    for table in TABLES.values()
    for index in sorted(table.indexes, key=lambda one: str(one.name))
    if index.unique
]
REFERENCES = [
    (table, str(one.name), [column.name for column in one.columns][-1]) for table, one in constraints(ForeignKeyConstraint)
]


def test_there_is_a_row_for_every_table_and_something_that_breaks_every_check() -> None:
    assert set(FIRST) == set(TABLES) - {"change_counter"}
    assert set(BREAKS) == {str(one.name) for _, one in constraints(CheckConstraint)}


@pytest.mark.parametrize("table", [name for name in FIRST])
def test_a_second_row_that_breaks_no_rule_is_taken(engine: Engine, table: str) -> None:
    with engine.without(table) as conn:
        _prepare(conn, table)
        insert(conn, table, another(table))


@pytest.mark.parametrize("table", [name for name in FIRST])
def test_of_each_row_there_is_one(engine: Engine, table: str) -> None:
    with engine.without(table) as conn, pytest.raises(REFUSED):
        insert(conn, table, FIRST[table])


@pytest.mark.parametrize(("table", "name", "number"), CHECKS, ids=str)
def test_a_row_that_breaks_a_check_is_not_taken_and_would_be_without_it(
    engine: Engine, table: str, name: str, number: int
) -> None:
    row, first = {**another(table), **BREAKS[name][number]}, FULL.get(name, ())
    with engine.without(table, *first) as conn:
        refuse(conn, table, row, name)
    assert is_missed(engine, table, row, name, name, *first)


def twin(table: str, columns: list[str]) -> Row:
    """Return a second row that is the first one's twin in these columns."""
    return {**another(table), **{name: FIRST[table].get(name) for name in columns}}


@pytest.mark.parametrize(("table", "name", "columns"), UNIQUE, ids=lambda value: value if isinstance(value, str) else "")
def test_what_must_be_one_of_its_kind_is_and_would_not_be_without_the_rule(
    engine: Engine, table: str, name: str, columns: list[str]
) -> None:
    row = twin(table, columns) | ({"is_primary": True} if name == "one_primary_version" else {})
    row |= {"entries": None} if name == "one_place_for_each" else {}
    said = name if engine.name == "postgresql" else f"UNIQUE constraint failed: {table}.{columns[0]}"
    with engine.without(table) as conn:
        _prepare(conn, table)
        refuse(conn, table, row, said)
    assert is_missed(engine, table, row, said, name)


@pytest.mark.parametrize(("table", "name", "column"), REFERENCES, ids=str)
def test_what_is_referred_to_is_there_and_need_not_be_without_the_rule(
    engine: Engine, table: str, name: str, column: str
) -> None:
    row = {**another(table), column: "nobody"}
    said = name if engine.name == "postgresql" else "FOREIGN KEY"
    with engine.without(table) as conn:
        _prepare(conn, table)
        with pytest.raises(REFUSED, match=said):
            insert(conn, table, row)
    assert is_missed(engine, table, row, said, name)


# ---- triggers -----------------------------------------------------------------------------------------------------------------
@cache
def statements() -> dict[str, tuple[str, str, str]]:
    """Return for each trigger of both engines its table, what it refuses and what it says then."""
    found: dict[str, tuple[str, str, str]] = {}
    for table in schema.APPEND_ONLY:
        column = next(iter(TABLES[table].columns)).name
        said = f"{table} is append-only"
        found[f"{table}_no_update"] = (table, f'UPDATE {table} SET "{column}" = "{column}"', said)
        found[f"{table}_no_delete"] = (table, f"DELETE FROM {table}", said)
        found[f"{table}_no_truncate"] = (table, f"TRUNCATE {table} CASCADE", said)
    for table in schema.UNDYING:
        found[f"{table}_no_delete"] = (table, f"DELETE FROM {table}", f"{table} keeps its history")
        found[f"{table}_no_truncate"] = (table, f"TRUNCATE {table} CASCADE", f"{table} keeps its history")
    more = "INSERT INTO {} SELECT {} FROM {} WHERE {}"
    signed = "approval, requester, authenticator, statement, proof, signed_at, s.event"
    return found | {
        "key_versions_stay_gone": ("key_versions", "UPDATE key_versions SET state = 'active', sealed = kcv::bytea, destroyed_at = NULL", "stays destroyed"),
        "approvals_stay_as_asked": ("approvals", "UPDATE approvals SET requester = 'cid'", "stays as it was asked"),
        "approvals_end_once": ("approvals", "UPDATE approvals SET ending = 'executed'", "ends once"),
        "approval_signatures_of_others": (
            "approval_signatures",
            more.format("approval_signatures", signed, "approval_signatures s JOIN approvals a ON a.id = s.approval", "true"),
            "others sign",
        ),
        "keys_remember_stale": ("keys", "UPDATE keys SET stale = 'never'", "is not forgotten"),
        "keys_stay_as_made": ("keys", "UPDATE keys SET made_in = 'e'", "is not changed"),
        "key_versions_stay_as_made": ("key_versions", "UPDATE key_versions SET origin = 'imported'", "is not changed"),
        "segments_no_gap": ("segments", more.format("segments (first, count, entries)", "first + 2, count, entries", "journal", "true"), "leave no gap"),
        "journal_no_gap": ("journal", more.format("journal", "node, first + 2, count, entries", "journal", "true"), "leaves no gap"),
    }  # fmt: skip


BEFORE = {
    "key_versions_stay_gone": "UPDATE key_versions SET state = 'destroyed', sealed = NULL, destroyed_at = 2, is_primary = false",
    "keys_remember_stale": "UPDATE keys SET stale = 'allowed'",
    "approvals_end_once": "UPDATE approvals SET ending = 'denied', ended_at = 3, ended_by = 'bob', ended_event = 'f'",
}


def _run(conn: Any, statement: str) -> None:
    if isinstance(conn, sqlite3.Connection):
        conn.execute("PRAGMA foreign_keys = OFF")  # a deletion is to be refused by its guard, not by who refers to the row
        conn.execute(statement.replace("::bytea", "").replace("= kcv", "= x'00'"))
        return
    conn.execute("SET LOCAL session_replication_role = replica")  # likewise: guards hold for a replica, too, references do not
    conn.execute(statement)


TRIGGERS = sorted(statements())
TRUNCATES = [name for name in TRIGGERS if name.endswith("_truncate")]  # of PostgreSQL alone
ON_BOTH = [name for name in TRIGGERS if name not in TRUNCATES]


@pytest.mark.parametrize("name", TRUNCATES)
def test_a_table_is_not_emptied_and_would_be_without_the_trigger(on_postgres: OnPostgres, name: str) -> None:
    table, statement, said = statements()[name]
    with on_postgres.without(table) as conn, pytest.raises(REFUSED, match=f"^{said}"):
        _run(conn, statement)
    with on_postgres.without(table, name) as conn:
        for other in TRUNCATES:  # what refers to it is emptied with it, and has its own
            if other != name:
                conn.execute(f"DROP TRIGGER {other} ON {statements()[other][0]}")
        _run(conn, statement)


@pytest.mark.parametrize("name", ON_BOTH)
def test_a_trigger_refuses_and_without_it_nobody_does(engine: Engine, name: str) -> None:
    table, statement, said = statements()[name]
    with engine.without(table) as conn:
        if name in BEFORE:
            _run(conn, BEFORE[name])
        with pytest.raises(REFUSED, match=said):
            _run(conn, statement)
    with engine.without(table, name) as conn:
        if name in BEFORE:
            _run(conn, BEFORE[name])
        _run(conn, statement)


def test_every_trigger_has_a_statement_that_it_refuses(engine: Engine) -> None:
    if isinstance(engine, OnPostgres):
        assert {guard.name for guard in guards()} == set(TRIGGERS)
        return
    there = {name for name, kind, _ in engine.made if kind == "trigger"}
    assert there == set(ON_BOTH)

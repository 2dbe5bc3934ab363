"""Changes that only add rows: those of a group go in together, and if one is refused, each is kept by itself, as ever."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from keyclave.core.errors import Broken, Unavailable, WrongState
from keyclave.store import meta_rows, schema
from keyclave.store.insertions import Insertion, Rows
from keyclave.store.sqlite import SqliteStore
from tests.store.units import FULL, Note, keep, kept, new_store, no_gaps, remember, remembered, segments, wired

pytestmark = [
    pytest.mark.requirement("P1", "R4", "R5"),
    pytest.mark.file_store("SQLite's groups, statement by statement; test_units.py holds both engines to what comes of them"),
]


@pytest.mark.parametrize(("count", "statements"), [(1, 1), (4, 1), (5, 2), (16, 1), (39, 6)])
def test_rows_of_many_units_go_in_by_few_statements(store: SqliteStore, count: int, statements: int) -> None:
    keep(store, Note("before", adds=("before",)))
    wire = wired(store)
    keep(store, *(Note(f"u{i}", adds=(f"n{i}",)) for i in range(count)))
    inserted = [line for line in wire.whole if line.startswith("INSERT INTO meta")]
    assert len(inserted) == statements
    assert not any(line.startswith("SAVEPOINT") for line in wire.whole)
    assert all(remembered(store, f"n{i}") == b"" for i in range(count))


def test_rows_that_have_something_in_common_go_in_with_it_each_among_its_own(store: SqliteStore) -> None:
    insertion = Insertion(schema.meta, ("name",), ("value",))

    class InCommon(Note):
        def add(self, rows: Rows, first: int) -> list[bytes]:
            for name in self.adds:
                rows.add(insertion, (name,), (b"few" if int(name[1:]) % 7 == 0 else b"many",))
            return self._leaves("ok", first)

    wire = wired(store)
    keep(store, *(InCommon(f"u{i}", adds=(f"n{i}",)) for i in range(39)))
    inserted = [line for line in wire.whole if line.startswith("INSERT INTO meta")]
    assert len(inserted) == 3 + 3  # six of the few: 4, 1, 1; thirty-three of the many: 16, 16, 1
    assert all(remembered(store, f"n{i}") == (b"few" if i % 7 == 0 else b"many") for i in range(39))


def test_whoever_fails_unforeseen_fails_alone(store: SqliteStore) -> None:
    class Faulty(Note):
        def add(self, rows: Rows, first: int) -> list[bytes]:
            super().add(rows, first)
            raise ZeroDivisionError

        def change(self, transaction: Connection, first: int) -> list[bytes]:
            raise ZeroDivisionError

    units = [Note("a", adds=("a",)), Faulty("b", adds=("b",)), Note("c", adds=("c",))]
    keep(store, *units)
    assert [type(unit.refusal) for unit in units] == [type(None), Broken, type(None)]
    assert [remembered(store, name) for name in "abc"] == [b"", None, b""]


def test_whoever_looks_finds_what_was_only_added_before_it(store: SqliteStore) -> None:
    found: list[bytes | None] = []
    look = [Note(name, act=lambda conn: found.append(meta_rows.read_meta(conn, "added"))) for name in ("before", "after")]
    wire = wired(store)
    keep(store, look[0], Note("add", adds=("added",)), look[1], Note("last", adds=("last",)))
    assert found == [None, b""] and remembered(store, "last") == b""
    assert not any(line.startswith("ROLLBACK") for line in wire.whole)


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO meta", "INSERT INTO segments", "COMMIT"])
@pytest.mark.parametrize("refused", [False, True])
def test_a_fault_of_the_disk_fails_all_of_them_and_keeps_nothing(store: SqliteStore, statement: str, refused: bool) -> None:
    """Also where they were to be kept one by one: the first try was undone then."""
    if refused:
        keep(store, Note("first", adds=("b",)))
    wire = wired(store)
    units = [Note(name, adds=(name,)) for name in "abc"]
    wire.fail[statement] = [sqlite3.OperationalError(FULL)]
    keep(store, *units)
    assert [type(unit.told[0]) for unit in units] == [Unavailable] * 3
    wire.fail.clear()
    assert [remembered(store, name) for name in "ac"] == [None, None]
    keep(store, Note("next", adds=("d",)))
    assert remembered(store, "d") == b"" and no_gaps(store)


def test_what_cannot_be_undone_fails_and_is_told(store: SqliteStore) -> None:
    keep(store, Note("first", adds=("b",)))
    wire = wired(store)
    units = [Note(name, adds=(name,)) for name in "abc"]
    wire.fail["ROLLBACK"] = [sqlite3.OperationalError("disk I/O error")]
    keep(store, *units)
    assert all(unit.told and unit.told[0] is not None for unit in units)
    keep(store, Note("next", adds=("d",)))
    assert remembered(store, "a") is None and remembered(store, "d") == b"" and no_gaps(store)


NAMES = st.sampled_from("abcdefgh")
UNITS = st.lists(st.tuples(st.sampled_from(["add", "write", "use"]), st.lists(NAMES, min_size=1, max_size=3)), max_size=12)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(UNITS, max_size=3))
def test_together_they_leave_what_each_by_itself_would(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[tuple[str, list[str]]]]
) -> None:
    """The same units, once as they are, once as changes that the store knows nothing of: the same rows, the same log."""
    left = []
    for adds in (True, False):
        store = new_store(tmp_path_factory.mktemp("store"))
        for number, units in enumerate(groups):
            made = []
            for place, (kind, names) in enumerate(units):
                name = f"{kind}{number}.{place}"
                unit = Note(name) if kind == "use" else Note(name, adds=tuple(names))
                if unit.adds and (kind == "write" or not adds):
                    unit.adds = ()
                    unit.act = lambda conn, names=names: [remember(each, b"")(conn) for each in names]
                made.append(unit)
            keep(store, *made)
        left.append((kept(store), segments(store), [remembered(store, name) for name in "abcdefgh"]))
        store.close()
    assert left[0] == left[1]


def test_a_refusal_that_is_raised_is_recorded(store: SqliteStore) -> None:
    class Sealed(Note):
        def add(self, rows: Rows, first: int) -> list[bytes]:
            raise WrongState("sealed meanwhile", "open it")

        def change(self, transaction: Connection, first: int) -> list[bytes]:
            raise WrongState("sealed meanwhile", "open it")

    units = [Note("a", adds=("a",)), Sealed("b", adds=("b",))]
    keep(store, *units)
    assert [type(unit.refusal) for unit in units] == [type(None), WrongState]
    assert no_gaps(store)

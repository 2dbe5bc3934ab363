"""The suite runs on two stores: whatever runs on one of them alone is listed here, and why.

`--store postgresql` gives every server and every desk of the tests a database of its own; what bears the marker `file_store` is left
out then. Tests that hold both engines to something by themselves, whatever `--store` says, name both.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import ROOT, python_files, tree

ON_SQLITE_ALONE = {
    "tests/failure/test_clock.py::test_a_live_server_whose_clock_is_set_back_an_hour": "a node that is that wrong refuses",
    "tests/failure/test_disk_full.py": "the disk under the file",
    "tests/failure/test_lost_commit.py": "faults of the file under a commit",
    "tests/failure/test_lost_commit_desk.py": "faults of the file under a commit",
    "tests/failure/test_migrating.py": "a file is migrated by SQLite's own statements",
    "tests/failure/test_set_back.py": "an older copy of the file in its place",
    "tests/failure/test_tamper_live.py": "the file in a thief's hands",
    "tests/protocols/test_rights_by_the_clock.py::test_a_lost_commit_spends_nothing": "a fault of the file under a commit",
    "tests/workers/test_faults.py": "several workers of one file",
    "tests/workers/test_workers.py": "several workers of one file",
    "tests/store/test_additions.py": "SQLite's own statements",
    "tests/store/test_group_commit.py": "SQLite's own statements",
    "tests/store/test_guards.py": "triggers in SQLite's language, the rights of the file",
    "tests/store/test_people_guards.py": "rows over SQLite's own connection, beside test_rules.py",
    "tests/store/test_shared.py": "processes that take turns at one file",
    "tests/store/test_shared_targets.py": "processes that take turns at one file",
    "tests/protocols/test_drafts.py": "answers beside the sync of SQLite's write-ahead log",
    "tests/store/test_syncs.py": "the sync of SQLite's write-ahead log",
    "tests/store/test_turns.py": "processes that take turns at one file",
    "tests/store/test_workload_rows.py": "rows over SQLite's own connection, beside test_rules.py",
    "tests/store/test_write_ahead_log.py": "the write-ahead log beside the file",
}
ON_POSTGRESQL_ALONE = {
    "tests/cluster": "nodes that share a database, and lose it: one file has no nodes. What holds for rows of both is tried on both",
    "tests/failure/test_spool_placing.py": "what nodes spooled while the database was away",
    "tests/store/test_postgres_faults.py": "connections that are lost, late and cut; standbys",
    "tests/store/test_postgres_guards.py": "roles, owners and replicas, and triggers in PostgreSQL's language",
    "tests/store/test_postgres_lane.py": "the connection that the event loop writes on",
    "tests/store/test_postgres_schema.py": "what Alembic finds in PostgreSQL's catalogue",
    "tests/store/test_postgres_start.py": "addresses, versions, rights and poolers, before a server starts",
    "tests/workers/test_on_postgresql.py": "workers that are nodes each",
}
LOOKED_INTO = re.compile(r"\b(SqliteStore|sqlite3|keyclave\.db|PostgresStore|new_postgres|new_database)\b")
NAMES_BOTH = re.compile(r"sqlite.*postgres|postgres.*sqlite|any_store|on_postgresql", re.DOTALL | re.IGNORECASE)
FIRST_LOOK_ELSEWHERE = {
    "tests/failure/test_ceremony.py": "looks into the file that a ceremony of its own has made",
    "tests/failure/test_kill_ceremony.py": "kills ceremonies that make a file, line by line",
    "tests/store/test_opening.py": "opens a file of its own, and a settings file of the other store",
    "tests/unit/crypto/test_log_keys.py": "names a table, and opens no store",
}


def marked(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (file, or file::test, and why) of everything that bears the marker."""
    for path in python_files(root, ("tests",)):
        name = path.relative_to(root).as_posix()
        for node in tree(path).body if "file_store" in path.read_text() else ():
            found = []
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                found = [(name, call) for call in ast.walk(node.value)]
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                found = [(f"{name}::{node.name}", call) for mark in node.decorator_list for call in ast.walk(mark)]
            for where, call in found:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.file_store":
                    yield where, "".join(str(given.value) for given in call.args if isinstance(given, ast.Constant))


def test_what_is_left_out_on_postgresql_is_listed_and_says_why() -> None:
    found = dict(marked(ROOT))
    assert set(found) == set(ON_SQLITE_ALONE)
    assert all(len(why) > 20 for why in found.values())


def test_whoever_looks_into_one_store_says_so_or_looks_into_both() -> None:
    listed = {name.partition("::")[0] for name in ON_SQLITE_ALONE} | set(ON_POSTGRESQL_ALONE) | set(FIRST_LOOK_ELSEWHERE)
    missing = []
    for path in python_files(ROOT, ("tests",)):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text()
        looks = path.name.startswith("test_") and "/house/" not in name and LOOKED_INTO.search(text)
        if looks and not listed & {name, path.parent.relative_to(ROOT).as_posix()} and not NAMES_BOTH.search(text):
            missing.append(name)
    assert missing == [], "list it above with why it runs on one store alone, or let it run on both"


@pytest.mark.parametrize("name", [*ON_SQLITE_ALONE, *ON_POSTGRESQL_ALONE, *FIRST_LOOK_ELSEWHERE])
def test_what_is_listed_is_there(name: str) -> None:
    assert (ROOT / name.partition("::")[0]).exists()

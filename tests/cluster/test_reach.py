"""How long a change has to wait for nodes that may decrypt after their lease: what its transaction sees of them, on both engines."""

from __future__ import annotations

import threading

import msgspec
import psycopg
import pytest
from sqlalchemy import Connection, create_engine, insert, update
from sqlalchemy.pool import NullPool

from keyclave.store import nodes, schema
from keyclave.store.stale import read_reach
from tests.cluster import test_rows
from tests.postgres import new_database, until
from tests.store.test_guards import KEY

pytestmark = pytest.mark.requirement("P4", "R22")
conn = test_rows.conn
SECOND = test_rows.SECOND


def node(name: str, stale: int) -> nodes.Node:
    return msgspec.structs.replace(test_rows._node(name), stale=stale * SECOND)


def test_the_reach_is_that_of_the_nodes_once_a_key_allows_stale_use_and_ever_after(conn: Connection) -> None:
    nodes.renew(conn, node("plain", 0), SECOND)
    nodes.renew(conn, node("short", 30), SECOND)
    conn.execute(insert(schema.tenants), {"id": "t", "name": "home", "home": True, "created_at": 1})
    conn.execute(insert(schema.keys), KEY)
    assert read_reach(conn) == 0
    for stale in ("allowed", "ended"):
        conn.execute(update(schema.keys).values(stale=stale))
        assert read_reach(conn) == 30 * SECOND
    nodes.renew(conn, node("long", 60), SECOND)
    assert read_reach(conn) == 60 * SECOND
    nodes.leave(conn, "long")
    assert read_reach(conn) == 30 * SECOND
    nodes.leave(conn, "short")
    assert read_reach(conn) == 0


def test_a_row_is_announced_when_it_is_new_gone_or_says_something_else(conn: Connection) -> None:
    assert not nodes.renew(conn, node("a", 30), SECOND)
    assert nodes.renew(conn, node("a", 30), SECOND)
    assert not nodes.renew(conn, node("a", 60), SECOND)
    assert nodes.read_nodes(conn)[0].stale == 60 * SECOND
    assert nodes.renew(conn, node("a", 60), SECOND)
    nodes.leave(conn, "a")
    assert not nodes.renew(conn, node("a", 60), SECOND)
    assert nodes.read_nodes(conn)[0].left_at is None
    conn.execute(nodes.t.nodes.delete())
    assert not nodes.renew(conn, node("a", 60), SECOND)
    assert nodes.renew(conn, node("a", 60), SECOND)


def test_a_node_that_was_given_up_and_comes_back_only_announces_itself(conn: Connection) -> None:
    nodes.renew(conn, node("a", 30), SECOND)
    seen = nodes.read_nodes(conn)[0].seen_at
    assert nodes.renew(conn, node("a", 30), SECOND)
    nodes.give_up(conn, "a", seen)  # it has moved since
    assert nodes.read_nodes(conn)[0].left_at is None
    nodes.give_up(conn, "a", nodes.read_nodes(conn)[0].seen_at)
    assert nodes.read_nodes(conn)[0].left_at is not None
    assert read_reach(conn) == 0
    assert not nodes.renew(conn, node("a", 30), SECOND)
    assert nodes.renew(conn, node("a", 30), SECOND)
    assert nodes.read_nodes(conn)[0].left_at is None


def test_no_node_announces_itself_between_a_changes_look_and_its_commit() -> None:
    with new_database() as database, database.connect("keyclave_app") as changing, database.connect() as admin:
        changing.execute("BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE change_counter IN SHARE ROW EXCLUSIVE MODE")
        changing.execute("SELECT max(stale) FROM nodes")
        engine = create_engine("postgresql+psycopg://", creator=lambda: database.connect("keyclave_app"), poolclass=NullPool)
        told: list[object] = []

        def announce() -> None:
            try:
                with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
                    told.append(nodes.renew(conn, node("late", 30), SECOND))
            except psycopg.Error as fault:
                told.append(fault)

        thread = threading.Thread(target=announce)
        thread.start()
        waits = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'change_counter' AND NOT granted"
        until(lambda: admin.execute(waits).fetchone() == (1,), "nobody waits for the lock")
        assert admin.execute("SELECT count(*) FROM nodes").fetchone() == (0,)
        changing.execute("COMMIT")
        thread.join()
        assert told == [False]
        assert admin.execute("SELECT stale FROM nodes").fetchone() == (30 * SECOND,)
        engine.dispose()

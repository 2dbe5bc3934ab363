"""The rows of nodes, leases and places, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from keyclave.audit.event import Event, decode, encode
from keyclave.core.errors import Broken
from keyclave.operations.nodes.follower import EVERYTHING, Follower
from keyclave.operations.nodes.placing import Row, in_order
from keyclave.operations.nodes.sequencer import LEASE, Sequencer
from keyclave.store import log_rows, meta_rows, nodes, places, schema, sequence, versions
from keyclave.store.changes import forget_changes, keep_changes
from keyclave.store.entries import pack
from keyclave.store.node_tables import changes as change_rows
from keyclave.store.node_tables import journal
from keyclave.store.node_tables import nodes as node_rows
from keyclave.store.sqlite import SqliteStore
from tests.postgres import new_database
from tests.store.units import new_store

SECOND = 1_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def conn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    if request.param == "sqlite":
        store: SqliteStore = new_store(tmp_path)
        yield store.line.conn
        store.close()
        return
    with new_database() as database:
        engine = create_engine("postgresql+psycopg://", creator=lambda: database.connect("keyclave_app"), poolclass=NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as made:
            yield made


def _node(name: str, applied: int = 0) -> nodes.Node:
    return nodes.Node(
        id=name, address="a:1", version="1", schema="0008", started_at=0, seen_at=0, applied=applied, lease_until=0, skew=5,
        sealed=False, draining=False,
    )  # fmt: skip


def _keep(conn: Connection, node: str, first: int, *events: str) -> None:
    packed = pack([_event(event, at=100 + first) for event in events])
    conn.execute(journal.insert(), {"node": node, "first": first, "count": len(events), "entries": packed})


def _event(name: str, at: int = 1) -> bytes:
    return encode(Event(actor="a", at=at, id=name, op="encrypt", outcome="ok"))


def _log(conn: Connection) -> list[str]:
    return [decode(entry).id for entry in places.read_log(conn, 0, 10_000)]


@pytest.mark.requirement("R5", "P4")
def test_a_schema_that_became_too_new_while_the_node_ran_ends_its_lease(conn: Connection) -> None:
    """Restarted it would be refused; until then it must not go on either. One that the newer schema still allows goes on."""
    own = versions.revision()
    nodes.renew(conn, _node("a"), SECOND)
    meta_rows.write_meta(conn, versions.SCHEMA_MIN, own.encode())
    nodes.renew(conn, _node("a", applied=1), SECOND)
    meta_rows.write_meta(conn, versions.SCHEMA_MIN, f"{int(own) + 1:04}".encode())
    for name in ("a", "b"):  # nor does another of that program join
        with pytest.raises(Broken, match="too new"):
            nodes.renew(conn, _node(name, applied=2), SECOND)
    assert [(row.id, row.applied) for row in nodes.read_nodes(conn)] == [("a", 1)]


def test_a_node_joins_renews_leaves_and_is_listed(conn: Connection) -> None:
    nodes.renew(conn, _node("a"), SECOND)
    first = nodes.read_nodes(conn)[0]
    assert abs(first.lease_until - first.seen_at - SECOND) < 1000
    assert first.started_at <= first.seen_at
    nodes.renew(conn, _node("a", applied=7), SECOND)
    again = nodes.read_nodes(conn)[0]
    assert (again.applied, again.started_at, again.left_at) == (7, first.started_at, None)
    assert again.seen_at > first.seen_at
    fence = nodes.take_lease(conn, LEASE, "a", SECOND)
    assert fence == 1
    nodes.leave(conn, "a")
    assert nodes.read_nodes(conn)[0].left_at is not None
    assert nodes.take_lease(conn, LEASE, "b", SECOND) == 2  # at once: it was given back


def test_news_are_the_others_and_their_numbers_have_no_gap(conn: Connection) -> None:
    assert nodes.read_news(conn, 0, "me")[:2] == (0, [])
    conn.exec_driver_sql("BEGIN")
    keep_changes(conn, "other", [("t", "key")])
    keep_changes(conn, "me", [("t", "mine")])
    conn.exec_driver_sql("COMMIT")
    assert nodes.read_news(conn, 0, "me")[:2] == (2, [(1, [("t", "key")]), (2, [])])
    assert nodes.read_news(conn, 1, "other")[:2] == (2, [(2, [("t", "mine")])])


@pytest.mark.requirement("R6")
def test_one_lease_has_one_holder_and_a_late_one_writes_nothing(conn: Connection) -> None:
    fence = nodes.take_lease(conn, LEASE, "a", SECOND)
    assert fence is not None
    assert nodes.take_lease(conn, LEASE, "b", SECOND) is None
    assert nodes.lease_holder(conn, LEASE) == "a"
    first = Sequencer(conn, "a", fence, SECOND)
    _keep(conn, "n", 0, "n-0")
    nodes.give_lease(conn, LEASE, "a", fence)
    assert nodes.lease_holder(conn, LEASE) == ""
    later = nodes.take_lease(conn, LEASE, "b", SECOND)
    assert later == fence + 1
    with pytest.raises(sequence.LostLease):
        first.look()
    with pytest.raises(sequence.LostLease):
        first.hold()
    with pytest.raises(sequence.LostLease):
        first.sign("note", 1, bytes(32), 1)
    assert _log(conn) == []
    assert log_rows.last_checkpoint(conn) is None
    assert Sequencer(conn, "b", later, SECOND).look() == 1


@pytest.mark.requirement("R6")
def test_a_later_term_of_the_same_node_fences_the_earlier_one(conn: Connection) -> None:
    """Its thread was stuck for longer than the lease, and another of the same name began anew: the name alone tells nothing."""
    fence = nodes.take_lease(conn, LEASE, "a", SECOND)
    assert fence is not None
    stuck = Sequencer(conn, "a", fence, SECOND)
    later = nodes.take_lease(conn, LEASE, "a", SECOND)
    assert later == fence + 1
    _keep(conn, "n", 0, "n-0")
    for act in (stuck.look, stuck.hold, lambda: stuck.sign("note", 1, bytes(32), 1)):
        with pytest.raises(sequence.LostLease):
            act()
    nodes.give_lease(conn, LEASE, "a", fence)  # nor does it give away what is the later one's
    assert nodes.lease_holder(conn, LEASE) == "a"
    assert Sequencer(conn, "a", later, SECOND).look() == 1


@pytest.mark.requirement("R6")
def test_without_the_fence_the_tables_still_place_nothing_twice(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "hold_lease", lambda *_: True)
    one, other = (Sequencer(conn, name, 1, SECOND) for name in "ab")
    nodes.renew(conn, _node("n"), SECOND)
    assert one.look() == other.look() == 0
    _keep(conn, "n", 0, "n-0", "n-1")
    assert one.look() == 2
    with pytest.raises(DBAPIError):
        other.look()
    assert _log(conn) == ["n-0", "n-1"]


@pytest.mark.requirement("R6", "P1")
def test_every_journal_gets_its_places_in_its_order_and_the_next_sequencer_goes_on(conn: Connection) -> None:
    fence = nodes.take_lease(conn, LEASE, "s", SECOND)
    assert fence is not None
    _keep(conn, "gone", 0, "gone-0")  # of a node whose row is no longer there
    first = Sequencer(conn, "s", fence, SECOND)
    for name in ("a", "b"):
        nodes.renew(conn, _node(name), SECOND)
    for number in range(0, 600, 2):
        _keep(conn, "a", number, f"a-{number}", f"a-{number + 1}")
    first.look()
    _keep(conn, "b", 0, "b-0")
    while first.look():
        pass
    second = Sequencer(conn, "s", fence, SECOND)
    assert (second.size, second.root()) == (first.size, first.root())
    _keep(conn, "b", 1, "b-1")
    assert second.look() == 1
    log = _log(conn)
    assert len(log) == len(set(log)) == 603
    for name in ("a", "b", "gone"):
        mine = [event for event in log if event.startswith(name)]
        assert mine == [f"{name}-{number}" for number in range(len(mine))]
    assert log_rows.last_tile(conn) == 603 // 256
    assert places.find_place(conn, "b", 1, "home") == 602


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 50)), max_size=40))
def test_the_order_keeps_each_journal_and_leaves_nothing_out(made: list[tuple[str, int, int]]) -> None:
    rows, heads = [], dict.fromkeys("abc", 0)
    for name, events, at in made:
        rows.append(Row(name, heads[name], events, at, [b"x"] * events, at))
        heads[name] += events
    ordered = in_order(sorted(rows, key=lambda row: (row.node, row.first)), {})
    assert sorted((r.node, r.first) for r in ordered) == sorted((r.node, r.first) for r in rows)
    for name in "abc":
        mine = [row.first for row in ordered if row.node == name]
        assert mine == sorted(mine)
    assert [r.at for r in ordered] == sorted(r.at for r in ordered)


def test_a_gap_in_a_journal_stops_the_sequencer() -> None:
    with pytest.raises(Broken, match="was to come"):
        in_order([Row("a", 2, 1, 0, [b"x"], 0)], {"a": 1})


def test_rows_that_nobody_needs_any_more_go_and_no_others(conn: Connection) -> None:
    nodes.renew(conn, _node("old"), SECOND)
    nodes.renew(conn, _node("new"), SECOND)
    week_ago = nodes.database_time(conn) - nodes.GONE_FOR_GOOD - SECOND
    conn.execute(node_rows.update().where(node_rows.c.id == "old").values(seen_at=week_ago))
    nodes.forget_nodes(conn)
    assert [node.id for node in nodes.read_nodes(conn)] == ["new"]
    conn.exec_driver_sql("BEGIN")
    for number in range(2):
        keep_changes(conn, "n", [("t", f"key-{number}")])
    conn.exec_driver_sql("COMMIT")
    conn.execute(change_rows.update().where(change_rows.c.n == 1).values(at=week_ago))
    forget_changes(conn, nodes.database_time(conn))
    change, news, _ = nodes.read_news(conn, 0, "me")
    assert (change, [n for n, _ in news]) == (2, [2])
    assert Follower(0, 1.0).read(1.0, change, news).names == [EVERYTHING]  # whoever is that far behind knows nothing


@pytest.mark.requirement("R6", "P1")
def test_an_event_is_promised_before_it_has_its_place_and_no_other_is(conn: Connection) -> None:
    _keep(conn, "n", 0, "n-0", "n-1")
    _keep(conn, "n", 2, "n-2")
    kept = [sequence.read_promised(conn, "n", number) for number in range(4)]
    assert [entry and decode(entry).id for entry in kept] == ["n-0", "n-1", "n-2", None]
    assert sequence.read_promised(conn, "m", 0) is None


@pytest.mark.requirement("R22")
def test_no_checkpoint_is_dated_before_what_it_covers_whoever_goes_on(conn: Connection) -> None:
    """A node whose clock is ahead dates an event so; the verifier refuses a checkpoint that is older than what it covers."""
    fence = nodes.take_lease(conn, LEASE, "s", SECOND)
    assert fence is not None
    for name in ("ahead", "right"):
        nodes.renew(conn, _node(name), SECOND)
    first = Sequencer(conn, "s", fence, SECOND)
    assert first.newest == 0
    _keep(conn, "ahead", 0, *(f"a-{number}" for number in range(300)))
    _keep(conn, "ahead", 300, "a-300")
    first.look()
    assert first.newest == 400
    assert Sequencer(conn, "s", fence, SECOND).newest == 400  # of events that no checkpoint covers yet
    first.sign("note", first.size, first.root(), 400)
    _keep(conn, "right", 0, "r-0")
    second = Sequencer(conn, "s", fence, SECOND)
    second.look()
    assert second.newest == 400  # of the checkpoint before: dates never go back either


def test_the_latest_date_of_a_row_counts_wherever_it_stands(conn: Connection) -> None:
    """What took long is dated when it began, and stands behind what came after it."""
    fence = nodes.take_lease(conn, LEASE, "s", SECOND)
    assert fence is not None
    nodes.renew(conn, _node("ahead"), SECOND)
    sequencer = Sequencer(conn, "s", fence, SECOND)
    packed = pack([_event("a-0", at=900), _event("a-1", at=100)])
    conn.execute(journal.insert(), {"node": "ahead", "first": 0, "count": 2, "entries": packed})
    assert sequencer.look() == 2
    assert sequencer.newest == 900


# ---- whoever writes to the database past the servers ----------------------------------------------------------------------
@pytest.mark.requirement("R22")
@pytest.mark.parametrize("events", [5, 300])
def test_no_sequencer_goes_on_from_a_log_that_is_not_the_one_that_was_signed(conn: Connection, events: int) -> None:
    fence = nodes.take_lease(conn, LEASE, "s", SECOND)
    assert fence is not None
    nodes.renew(conn, _node("n"), SECOND)
    first = Sequencer(conn, "s", fence, SECOND)
    _keep(conn, "n", 0, *(f"n-{number}" for number in range(events)))
    assert first.look() == events
    log_rows.keep_checkpoint(conn, events, bytes(32), "note", 1)  # what was signed has another root than what lies there
    with pytest.raises(Broken, match="not the one that was signed"):
        Sequencer(conn, "s", fence, SECOND)
    assert first.look() == 0  # who saw it grow goes on


@pytest.mark.requirement("R22")
def test_no_sequencer_goes_on_from_a_log_whose_signed_tail_is_gone(conn: Connection) -> None:
    log_rows.keep_checkpoint(conn, 3, bytes(32), "note", 1)
    with pytest.raises(Broken, match="its tail is gone"):
        Sequencer(conn, "s", 1, SECOND)


@pytest.mark.requirement("R22", "P2")
@pytest.mark.parametrize(("level", "number"), [(0, 1), (0, 7), (1, 0)])
def test_no_sequencer_signs_hashes_of_events_that_have_no_place(conn: Connection, level: int, number: int) -> None:
    fence = nodes.take_lease(conn, LEASE, "s", SECOND)
    assert fence is not None
    nodes.renew(conn, _node("n"), SECOND)
    _keep(conn, "n", 0, *(f"n-{number}" for number in range(300)))
    assert Sequencer(conn, "s", fence, SECOND).look() == 300
    log_rows.keep_tiles(conn, {(level, number): bytes(8192)})
    with pytest.raises(Broken, match="hashes of more events than the 300"):
        Sequencer(conn, "s", fence, SECOND)


@pytest.mark.requirement("R22", "P2")
def test_no_sequencer_waits_for_events_of_a_journal_that_are_gone(conn: Connection) -> None:
    fence = nodes.take_lease(conn, LEASE, "s", SECOND)
    assert fence is not None
    conn.execute(schema.segments.insert(), {"first": 0, "count": 3, "node": "n", "node_first": 0})
    with pytest.raises(Broken, match="should reach 3 events and ends at 0"):
        Sequencer(conn, "s", fence, SECOND)


@pytest.mark.requirement("R6", "P1")
@pytest.mark.parametrize(
    "entries",
    [b"garbage", b"", b"\x00", pack([b"no event"]), pack([b'{"at":1}']), pack([_event("x")] * 2), pack([_event("x")])[:-1]],
)
def test_a_journal_that_holds_no_events_stops_itself_alone(
    conn: Connection, entries: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fence = nodes.take_lease(conn, LEASE, "s", SECOND)
    assert fence is not None
    for name in ("bad", "good"):
        nodes.renew(conn, _node(name), SECOND)
    _keep(conn, "bad", 0, "bad-0")
    conn.execute(journal.insert(), {"node": "bad", "first": 1, "count": 1, "entries": entries})
    _keep(conn, "bad", 2, "bad-2")
    sequencer = Sequencer(conn, "s", fence, SECOND)
    for number in range(3):
        _keep(conn, "good", number, f"good-{number}")
        assert sequencer.look()
    assert sequencer.look() == 0
    assert sorted(_log(conn)) == ["bad-0", "good-0", "good-1", "good-2"]
    assert [record.levelname for record in caplog.records if "bad" in record.getMessage()] == ["ERROR"]

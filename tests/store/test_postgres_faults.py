"""The database is cut off, killed or frozen at the worst moments: nothing is told that is not so, kept twice, or lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection

from keyclave.core.errors import Unavailable
from keyclave.store import meta_rows
from keyclave.store.pg import deadlines, journal, outcome
from keyclave.store.pg.address import read_address
from keyclave.store.postgres import PostgresStore
from tests.postgres import Database
from tests.store.proxy import Proxy, before
from tests.store.units import Note, kept, new_postgres, no_gaps, remember, remembered, segments


@pytest.fixture
def wire(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("w")
    with before(f"{database.server.folder}/.s.PGSQL.{database.server.port}", folder) as made:
        yield made


INSERT, COMMIT = b"INSERT INTO journal", b"COMMIT"
ROWS = {"thread": INSERT, "loop": b"\0keep\0"}  # what the row of a group of events is known by on the wire, on either way


@pytest.fixture(params=ROWS)
def store(database: Database, wire: Proxy, request: pytest.FixtureRequest) -> Iterator[PostgresStore]:
    """A store whose events the writing thread keeps, and one whose events the loop keeps on a connection of its own."""
    address = read_address(f"postgresql://keyclave_app@/{database.name}?host={wire.host}&port={wire.port}")
    loop = asyncio.new_event_loop() if request.param == "loop" else None
    made = PostgresStore(address, "0badcafe", loop=loop)
    yield made
    wire.thaw()
    wire.open = True
    until(lambda: not made.gone)
    made.close()
    if loop is not None:
        loop.close()


@pytest.fixture
def insert(request: pytest.FixtureRequest) -> bytes:
    return ROWS[request.node.callspec.params["store"]]


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)  # between two looks at a condition


def kept_after(store: PostgresStore, *units: Note) -> list[str]:
    for unit in units:
        store.enqueue(unit)
    store.flush()
    until(lambda: not store.gone)
    return kept(store)


@pytest.mark.requirement("P1", "R6")
def test_a_use_whose_commit_was_cut_off_after_it_happened_is_answered(store: PostgresStore, wire: Proxy, insert: bytes) -> None:
    wire.lose_answer(insert)
    one, two = Note("one"), Note("two")
    assert kept_after(store, one) == ["0 one ok"]
    assert one.told == [None]
    assert kept_after(store, two) == ["0 one ok", "1 two ok"]
    assert no_gaps(store)


@pytest.mark.requirement("P1", "R6")
def test_what_is_found_after_a_lost_commit_is_believed_only_once_a_standby_has_it(
    store: PostgresStore, wire: Proxy, insert: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary that crashed while a commit waited for its standby shows the row afterwards, though it may still be lost."""
    monkeypatch.setattr(deadlines, "RESOLVE_SECONDS", 0.3)
    monkeypatch.setattr(outcome, "_CONFIRM", "DO $$BEGIN RAISE WARNING 'canceling wait for synchronous replication'; END$$")
    wire.lose_answer(insert)
    one = Note("one")
    kept_after(store, one)
    assert [type(told) for told in one.told] == [Unavailable]


@pytest.mark.requirement("P1", "R6")
def test_a_change_whose_commit_was_cut_off_after_it_happened_is_answered(store: PostgresStore, wire: Proxy) -> None:
    wire.lose_answer(COMMIT)
    one = Note("one", act=remember("a", b"1"))
    assert kept_after(store, one) == ["0 one ok"]
    assert (one.told, remembered(store, "a")) == ([None], b"1")


@pytest.mark.requirement("P1", "R6")
@pytest.mark.parametrize(("part", "act"), [(b"", None), (COMMIT, remember("a", b"1"))], ids=["use", "change"])
def test_what_never_arrived_is_told_as_unknown_and_is_not_there(
    store: PostgresStore, wire: Proxy, insert: bytes, part: bytes, act: Callable[[Connection], object] | None
) -> None:
    wire.lose_request(part or insert)
    one, two = Note("one", act=act), Note("two")
    kept_after(store, one)
    assert [type(told) for told in one.told] == [Unavailable]
    assert remembered(store, "a") is None
    assert kept_after(store, two) == ["0 two ok"]


@pytest.mark.requirement("P1", "R6")
def test_a_commit_that_arrives_after_it_was_told_as_unknown_is_kept_once_and_the_next_goes_on_after_it(
    store: PostgresStore, wire: Proxy, insert: bytes
) -> None:
    wire.hold(insert)
    late, two = Note("late"), Note("two")
    kept_after(store, late)
    assert [type(told) for told in late.told] == [Unavailable]
    store.enqueue(Note("before"))  # takes the number of the late one
    store.flush()
    until(lambda: not store.gone)
    wire.release()
    assert kept_after(store, two) == ["0 before ok", "1 two ok"]
    assert no_gaps(store)


@pytest.mark.requirement("P1", "R6")
def test_a_late_commit_that_comes_first_takes_its_number(store: PostgresStore, wire: Proxy, insert: bytes) -> None:
    wire.hold(insert)
    late, two = Note("late"), Note("two")
    kept_after(store, late)
    wire.release()
    until(lambda: segments(store) == [(0, 1)])
    assert kept_after(store, two) == ["0 late ok", "1 two ok"]
    assert (two.told, two.first) == ([None], 1)
    assert no_gaps(store)


@pytest.mark.parametrize("act", [None, remember("a", b"1")], ids=["use", "change"])
def test_after_every_connection_was_cut_one_request_is_enough_to_find_it_out(
    store: PostgresStore, database: Database, act: Callable[[Connection], object] | None
) -> None:
    with database.connect() as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keyclave_app' AND datname = %s",
            (database.name,),
        )
    with pytest.raises(Unavailable):
        store.read(lambda conn: meta_rows.read_meta(conn, "node"))
    until(lambda: not store.gone)
    one = Note("one", act=act)
    assert kept_after(store, one) == ["0 one ok"]
    assert one.told == [None]


@pytest.mark.requirement("R6")
def test_while_the_database_is_gone_nobody_waits_for_it_and_afterwards_all_is_well(store: PostgresStore, wire: Proxy) -> None:
    wire.open = False
    wire.cut_all()
    with pytest.raises(Unavailable):
        store.read(lambda conn: meta_rows.read_meta(conn, "node"))
    assert store.gone
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(Unavailable):
            store.read(lambda conn: meta_rows.read_meta(conn, "node"))
        unit = Note("nobody")
        store.enqueue(unit)
        store.flush()
        assert [type(told) for told in unit.told] == [Unavailable]
    assert time.monotonic() - began < 1
    wire.open = True
    until(lambda: not store.gone)
    assert kept_after(store, Note("one")) == ["0 one ok"]


@pytest.mark.requirement("R6")
def test_a_frozen_database_holds_nobody_longer_than_the_deadline(
    store: PostgresStore, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "READ_SECONDS", 0.5)
    monkeypatch.setattr(deadlines, "WRITE_SECONDS", 0.5)
    monkeypatch.setattr(deadlines, "RESOLVE_SECONDS", 0.2)
    wire.freeze()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        store.read(lambda conn: meta_rows.read_meta(conn, "node"))
    unit = Note("one")
    store.enqueue(unit)
    store.flush()
    assert [type(told) for told in unit.told] == [Unavailable]
    assert time.monotonic() - began < 5
    wire.thaw()
    until(lambda: not store.gone)
    assert kept_after(store, Note("two"))[-1].endswith("two ok")
    assert no_gaps(store)


@pytest.mark.requirement("P1")
def test_a_full_disk_is_said_and_nothing_is_done(store: PostgresStore, database: Database) -> None:
    raising(database, "RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'")
    units = [Note("use"), Note("change", act=remember("a", b"1"))]
    for unit in units:
        store.enqueue(unit)
    store.flush()
    for unit in units:
        assert isinstance(unit.told[0], Unavailable)
        assert "disk is full" in unit.told[0].detail
    calm(database)
    assert kept_after(store, Note("after")) == ["0 after ok"]
    assert remembered(store, "a") is None


@pytest.mark.requirement("P1", "R6")
def test_a_commit_with_a_warning_is_not_believed(store: PostgresStore, database: Database) -> None:
    """So the server says that it gave up waiting for the standby; what it has is then on one disk alone."""
    raising(database, "RAISE WARNING 'canceling wait for synchronous replication due to user request'; RETURN NEW")
    one = Note("one")
    store.enqueue(one)
    store.flush()
    assert [type(told) for told in one.told] == [Unavailable]
    calm(database)
    assert kept_after(store, Note("two")) == ["0 one ok", "1 two ok"]


def raising(database: Database, act: str) -> None:
    with database.connect() as conn:
        conn.execute(f"CREATE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {act}; END$$")
        conn.execute("CREATE TRIGGER raising BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION raising()")


def calm(database: Database) -> None:
    with database.connect() as conn:
        conn.execute("DROP FUNCTION raising() CASCADE")


# ---- several nodes --------------------------------------------------------------------------------------------------------
def _count(conn: Connection) -> None:
    now = int(meta_rows.read_meta(conn, "count") or b"0")
    meta_rows.write_meta(conn, "count", str(now + 1).encode())


@pytest.mark.requirement("R6")
@pytest.mark.parametrize("how", ["units", "write"])
def test_of_what_two_nodes_change_at_once_nothing_is_lost(database: Database, how: str) -> None:
    with new_postgres(database, "aaaa") as one, new_postgres(database, "bbbb") as two:
        one.write(lambda conn: meta_rows.write_meta(conn, "count", b"0"))
        failed: list[object] = []

        def work(store: PostgresStore) -> None:
            for number in range(60):
                if how == "write":
                    store.write(_count)
                    continue
                unit = Note(f"{store.node}{number}", act=_count)
                store.enqueue(unit)
                store.flush()
                failed.extend(told for told in unit.told if told is not None)

        threads = [threading.Thread(target=work, args=(store,)) for store in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert remembered(one, "count") == b"120"


@pytest.mark.requirement("R22")
def test_changes_are_numbered_in_the_order_of_their_commits_and_told_to_who_listens(database: Database) -> None:
    class Change(Note):
        def touched(self) -> list[tuple[str, str]]:
            return [("t", self.name)]

    seen: list[int] = []
    with (
        new_postgres(database, "aaaa") as one,
        new_postgres(database, "bbbb") as two,
        database.connect("keyclave_app") as listener,
    ):
        listener.execute(f"LISTEN {journal.CHANNEL}")
        ended = threading.Event()

        def watch() -> None:
            """Whoever reads what is beyond the last number it saw must never miss one."""
            with database.connect("keyclave_app") as conn:
                while not ended.is_set() or len(seen) < 80:
                    last = seen[-1] if seen else 0
                    seen.extend(row[0] for row in conn.execute("SELECT n FROM changes WHERE n > %s ORDER BY n", (last,)))

        def work(store: PostgresStore) -> None:
            for number in range(40):
                store.enqueue(Change(f"{store.node}{number}", act=remember(f"{store.node}{number}", b"")))
                store.flush()

        watcher = threading.Thread(target=watch)
        threads = [watcher, *(threading.Thread(target=work, args=(store,)) for store in (one, two))]
        for thread in threads:
            thread.start()
        for thread in threads[1:]:
            thread.join()
        ended.set()
        watcher.join()
        assert seen == list(range(1, 81))
        told = {int(note.payload) for note in listener.notifies(timeout=5, stop_after=80)}
        assert told == set(seen)

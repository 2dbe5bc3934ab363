"""Moments as rows of either engine, by the role that a server has: kept once, taken once, counted, tidied; and raced for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from keyclave.store import meta_rows, moments
from keyclave.store.access import sessions
from keyclave.store.moments import Moment
from keyclave.store.sqlite import SqliteStore
from tests.postgres import Database

pytestmark = pytest.mark.requirement("R30")
NOW, MINUTE = 1_700_000_000_000_000, 60_000_000
racing = pytest.mark.parametrize("write", ["postgresql"], indirect=True)  # SQLite has one writer at a time
Write = Callable[[Callable[[Connection], Any]], Any]


@pytest.fixture(params=["sqlite", "postgresql"])
def write(request: pytest.FixtureRequest) -> Iterator[Write]:
    """Return what runs a function in a transaction of its own, repeated where others were in its way."""
    if request.param == "sqlite":
        store: SqliteStore = request.getfixturevalue("store")
        yield store.write
        return
    database: Database = request.getfixturevalue("database")
    engine = create_engine("postgresql+psycopg://", creator=lambda: _connect(database), poolclass=NullPool)

    def run(fn: Callable[[Connection], Any]) -> Any:
        while True:
            try:
                with engine.connect().execution_options(isolation_level="SERIALIZABLE") as conn:
                    result = fn(conn)
                    conn.commit()
                    return result
            except OperationalError as fault:
                if getattr(fault.orig, "sqlstate", "") not in ("40001", "40P01"):
                    raise

    yield run
    engine.dispose()


def _connect(database: Database) -> Any:
    conn = database.connect("keyclave_app")
    conn.autocommit = False
    return conn


def waiting(number: int = 0, **more: Any) -> Moment:
    digest = sha256(b"%d" % number).digest()
    return msgspec.structs.replace(
        Moment(kind="device", name=digest, code=digest, owner="network", held=b"a", made_at=NOW, expires_at=NOW + MINUTE), **more
    )


def test_a_name_and_a_code_are_kept_once(write: Write) -> None:
    assert write(lambda conn: moments.keep_moment(conn, waiting()))
    assert not write(lambda conn: moments.keep_moment(conn, waiting()))
    assert not write(lambda conn: moments.keep_moment(conn, waiting(1, code=waiting().code)))
    assert write(lambda conn: moments.keep_moment(conn, waiting(2, code=None)))
    assert write(lambda conn: moments.keep_moment(conn, waiting(3, code=None)))  # no code is nobody's
    assert write(lambda conn: moments.keep_moment(conn, waiting(kind="import")))


def test_one_is_found_until_it_is_over(write: Write) -> None:
    one = waiting()
    write(lambda conn: moments.keep_moment(conn, one))
    for find, name in ((moments.find_moment, one.name), (moments.find_code, one.code)):
        assert write(lambda conn: find(conn, "device", name, NOW + MINUTE - 1)) == one  # noqa: B023 - asked at once
        assert write(lambda conn: find(conn, "device", name, NOW + MINUTE)) is None  # noqa: B023
        assert write(lambda conn: find(conn, "import", name, NOW)) is None  # noqa: B023


def test_one_is_taken_and_changed_only_as_it_was_read(write: Write) -> None:
    one = waiting()
    write(lambda conn: moments.keep_moment(conn, one))
    assert write(lambda conn: moments.replace_held(conn, one, b"b"))
    assert not write(lambda conn: moments.replace_held(conn, one, b"c"))
    assert not write(lambda conn: moments.take_moment(conn, one))
    read = write(lambda conn: moments.find_moment(conn, "device", one.name, NOW))
    assert read.held == b"b"
    assert write(lambda conn: moments.take_moment(conn, read))
    assert not write(lambda conn: moments.take_moment(conn, read))


def test_those_that_wait_are_counted_by_owner_and_kind(write: Write) -> None:
    for number in range(3):
        write(lambda conn: moments.keep_moment(conn, waiting(number, owner=f"o{number % 2}")))  # noqa: B023
    found = write(lambda conn: [moments.count_waiting(conn, "device", NOW, owner) for owner in ("o0", "o1", None, "o2")])
    assert found == [2, 1, 3, 0]
    assert write(lambda conn: moments.count_waiting(conn, "device", NOW + MINUTE)) == 0
    assert write(lambda conn: moments.count_waiting(conn, "import", NOW)) == 0


def test_failures_are_counted_until_it_was_quiet_and_are_forgotten(write: Write) -> None:
    name = bytes(32)

    def fail(at: int) -> tuple[int, int]:
        write(lambda conn: moments.count_failed(conn, name, "network", at, MINUTE))
        found: tuple[int, int] = write(lambda conn: moments.read_failed(conn, name, at))
        return found

    assert [fail(NOW + number) for number in range(3)] == [(1, NOW), (2, NOW + 1), (3, NOW + 2)]
    assert write(lambda conn: moments.read_failed(conn, name, NOW + 2 + MINUTE)) == (0, 0)
    assert fail(NOW + 2 + MINUTE) == (1, NOW + 2 + MINUTE)
    write(lambda conn: moments.forget_failed(conn, name))
    assert write(lambda conn: moments.read_failed(conn, name, NOW)) == (0, 0)


def test_counts_of_failures_are_bounded_by_who_is_over_soonest(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "FAILURES", 10)
    names = [sha256(b"%d" % number).digest() for number in range(25)]
    for number, name in enumerate(names):
        write(lambda conn: moments.count_failed(conn, name, "network", NOW + number, MINUTE))  # noqa: B023
    assert write(lambda conn: moments.is_untidy(conn, NOW))
    assert write(lambda conn: moments.tidy_moments(conn, NOW)) == 15
    assert not write(lambda conn: moments.is_untidy(conn, NOW))
    found = write(lambda conn: [moments.read_failed(conn, name, NOW) for name in names])
    assert found == [(0, 0)] * 15 + [(1, NOW + number) for number in range(15, 25)]


def test_what_is_over_is_deleted_a_bounded_number_at_a_time(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_TIDIED", 3)
    for number in range(5):
        write(lambda conn: moments.keep_moment(conn, waiting(number, expires_at=NOW + number + 1)))  # noqa: B023
        write(lambda conn: sessions.spend_ceremony(conn, sha256(b"%d" % number).digest(), "login", "t", NOW + number + 1))  # noqa: B023
    assert not write(lambda conn: moments.is_untidy(conn, NOW))
    assert [write(lambda conn: moments.tidy_moments(conn, NOW + 4)) for _ in range(3)] == [6, 2, 0]
    assert write(lambda conn: conn.execute(text("SELECT count(*) FROM moments")).scalar_one()) == 1
    assert write(lambda conn: conn.execute(text("SELECT count(*) FROM ceremonies")).scalar_one()) == 1


def test_a_claim_is_of_one_node_until_it_is_over(write: Write) -> None:
    name = bytes(32)

    def claimed(node: str, at: int) -> bool:
        return bool(write(lambda conn: moments.claim(conn, name, node, at, MINUTE)))

    assert claimed("a", NOW)
    assert not claimed("b", NOW + MINUTE - 1)
    assert not claimed("a", NOW + MINUTE - 1)
    assert claimed("b", NOW + MINUTE)


def test_a_setting_is_made_by_one_for_all(write: Write) -> None:
    assert write(lambda conn: meta_rows.keep_meta(conn, "test.secret", b"a")) == b"a"
    assert write(lambda conn: meta_rows.keep_meta(conn, "test.secret", b"b")) == b"a"


# ---- races: several connections at once, on the engine that lets them ------------------------------------------------------------
@pytest.fixture
def at_once(write: Write) -> Callable[[Callable[[Connection], Any]], list[Any]]:
    """Return what runs a function in eight transactions that have all begun, and read, before any of them goes on."""

    def run(fn: Callable[[Connection], Any]) -> list[Any]:
        begun, results, lock = threading.Barrier(8), [], threading.Lock()

        def one() -> None:
            first = [True]

            def meet(conn: Connection) -> Any:
                conn.execute(text("SELECT count(*) FROM moments")).scalar_one()  # the snapshot is taken
                if first:
                    first.clear()
                    begun.wait(20)
                return fn(conn)

            result = write(meet)
            with lock:
                results.append(result)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(results) == 8
        return results

    return run


@racing
def test_of_eight_who_take_one_at_once_one_gets_it(write: Write, at_once: Callable[..., list[Any]]) -> None:
    one = waiting()
    write(lambda conn: moments.keep_moment(conn, one))
    assert sorted(at_once(lambda conn: moments.take_moment(conn, one))) == [False] * 7 + [True]


@racing
def test_of_eight_who_spend_one_ceremony_at_once_one_does(at_once: Callable[..., list[Any]]) -> None:
    spent = at_once(lambda conn: sessions.spend_ceremony(conn, bytes(32), "login", "t", NOW))
    assert sorted(spent) == [False] * 7 + [True]


@racing
def test_of_eight_who_claim_at_once_one_does(at_once: Callable[..., list[Any]]) -> None:
    assert sorted(at_once(lambda conn: moments.claim(conn, bytes(32), "n", NOW, MINUTE))) == [False] * 7 + [True]


@racing
def test_no_failure_of_eight_at_once_is_lost(write: Write, at_once: Callable[..., list[Any]]) -> None:
    at_once(lambda conn: moments.count_failed(conn, bytes(32), "network", NOW, MINUTE))
    assert write(lambda conn: moments.read_failed(conn, bytes(32), NOW)) == (8, NOW)


@racing
def test_no_more_wait_than_there_is_room_for(write: Write, at_once: Callable[..., list[Any]]) -> None:
    numbers = iter(range(100))

    def keep(conn: Connection) -> bool:
        if moments.count_waiting(conn, "device", NOW, "network") >= 3:
            return False
        return moments.keep_moment(conn, waiting(next(numbers)))

    assert sorted(at_once(keep)) == [False] * 5 + [True] * 3
    assert write(lambda conn: moments.count_waiting(conn, "device", NOW, "network")) == 3

"""The loop's own connection: events go over it without the thread, whatever their size, and the loop is never held up by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from keyclave.core.errors import Unavailable
from keyclave.store.pg import deadlines
from keyclave.store.pg.address import read_address
from keyclave.store.postgres import PostgresStore
from tests.postgres import Database
from tests.store.proxy import Proxy, before
from tests.store.units import Note, kept, no_gaps, remember, remembered


@asynccontextmanager
async def served(database: Database, url: str | None = None) -> AsyncIterator[PostgresStore]:
    """Open a store on the running loop."""
    store = PostgresStore(read_address(url or database.url()), "0badcafe", loop=asyncio.get_running_loop())
    try:
        yield store
    finally:
        store.close()


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)  # between two looks at a condition


@pytest.mark.requirement("P1", "R6")
def test_events_need_no_thread_and_a_change_does(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with served(database) as store:
            handed: list[int] = []
            thread = store._writing._thread
            real = thread.hand
            monkeypatch.setattr(thread, "hand", lambda group, row=None: (handed.append(len(group)), real(group, row)))
            events = [Note(f"e{i}") for i in range(40)]
            for unit in events:
                store.enqueue(unit)
            await until(lambda: all(unit.told for unit in events))
            assert handed == []
            change = Note("c", act=remember("a", b"1"))
            store.enqueue(change)
            await until(lambda: bool(change.told))
            assert handed == [1]
            assert (remembered(store, "a"), [u.told for u in (*events, change)]) == (b"1", [[None]] * 41)
            assert kept(store) == [f"{i} e{i} ok" for i in range(40)] + ["40 c ok"]

    asyncio.run(run())


@pytest.mark.requirement("P1")
def test_a_group_that_no_socket_takes_at_once_arrives_whole(database: Database) -> None:
    async def run() -> None:
        async with served(database) as store:
            units = [Note(f"{i:03}" + "x" * 60_000) for i in range(200)]  # 12 MB in one statement
            for unit in units:
                store.enqueue(unit)
            await until(lambda: all(unit.told for unit in units))
            assert [unit.told for unit in units] == [[None]] * 200
            assert kept(store) == [f"{i} {unit.name} ok" for i, unit in enumerate(units)]

    asyncio.run(run())


@pytest.mark.requirement("P4", "R33")
def test_no_change_overtakes_an_event_that_waited_before_it(database: Database) -> None:
    """A use that was judged before a revocation is kept before it, and answered before it."""

    async def run() -> None:
        async with served(database) as store:
            told: list[str] = []
            first = Note("first", diary=told)
            store.enqueue(first)
            await asyncio.sleep(0)  # one turn of the loop: it is on its way
            await asyncio.sleep(0)
            units = [
                Note("use", diary=told), Note("revoke", act=lambda conn: None, diary=told), Note("later", diary=told),
                Note("again", act=lambda conn: None, diary=told),
            ]  # fmt: skip
            for unit in units:
                store.enqueue(unit)
            assert not first.told
            await until(lambda: all(unit.told for unit in units))
            order = [entry.split()[1] for entry in kept(store)]
            for names in (order, [line.removeprefix("done ") for line in told]):
                assert names.index("use") < names.index("revoke")
                assert names.index("later") < names.index("again")
            assert no_gaps(store)

    asyncio.run(run())


@pytest.mark.requirement("P1", "R6")
def test_events_without_end_do_not_keep_a_change_waiting_nor_changes_an_event(database: Database) -> None:
    class Again(Note):
        store: PostgresStore

        def done(self, failure: Exception | None) -> None:
            super().done(failure)
            if going:
                self.store.enqueue(self)

    going = True

    async def run() -> None:
        nonlocal going
        async with served(database) as store:
            busy = [Again("event") for _ in range(8)] + [Again("change", act=lambda conn: None) for _ in range(8)]
            for unit in busy:
                unit.store = store
                store.enqueue(unit)
            late = Note("late"), Note("late change", act=remember("a", b"1"))
            await until(lambda: min(len(unit.told) for unit in busy) >= 3)
            for one in late:
                store.enqueue(one)
            await until(lambda: all(one.told == [None] for one in late))
            going = False
            store.flush()
            assert no_gaps(store)

    asyncio.run(run())


@pytest.mark.requirement("P1")
def test_the_next_group_is_on_its_way_before_the_first_is_answered(database: Database) -> None:
    diary: list[str] = []

    class Kept(Note):
        def keep(self, first: int) -> list[bytes]:
            diary.append(f"keep {self.name}")
            return super().keep(first)

    async def run() -> None:
        async with served(database) as store:
            one, two = Kept("one", diary=diary), Kept("two", diary=diary)
            store.enqueue(one)
            await asyncio.sleep(0)  # it has left
            store.enqueue(two)
            await until(lambda: bool(two.told))

    asyncio.run(run())
    assert diary == ["keep one", "keep two", "done one", "done two"]


@pytest.mark.requirement("R6")
def test_the_end_of_an_idle_connection_is_noticed_at_once_and_costs_nobody_an_answer(database: Database) -> None:
    async def run() -> None:
        async with served(database) as store:
            one, two = Note("one"), Note("two")
            store.enqueue(one)
            await until(lambda: bool(one.told))
            losses = store._connections._losses
            with database.connect() as conn:  # whoever inserted last is the loop's own
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND query LIKE %s",
                    (database.name, "INSERT INTO journal%"),
                )
            await until(lambda: store._connections._losses > losses and not store.gone)
            store.enqueue(two)
            await until(lambda: bool(two.told))
            assert (two.told, kept(store)) == ([None], ["0 one ok", "1 two ok"])

    asyncio.run(run())


@pytest.mark.requirement("R6", "P1")
def test_a_frozen_database_does_not_hold_the_loop(
    database: Database, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("WRITE_SECONDS", 0.5), ("READ_SECONDS", 0.5), ("RESOLVE_SECONDS", 0.2)):
        monkeypatch.setattr(deadlines, name, seconds)

    async def run() -> None:
        folder = tmp_path_factory.mktemp("w")
        with before(f"{database.server.folder}/.s.PGSQL.{database.server.port}", folder) as wire:
            async with served(database, f"postgresql://keyclave_app@/{database.name}?host={wire.host}&port={wire.port}") as store:
                one, longest, last = Note("one"), 0.0, time.monotonic()
                wire.freeze()
                store.enqueue(one)
                while not one.told:
                    await asyncio.sleep(0.001)
                    longest, last = max(longest, time.monotonic() - last), time.monotonic()
                assert [type(told) for told in one.told] == [Unavailable]
                assert longest < 0.4  # less than any time-out
                wire.thaw()
                await until(lambda: not store.gone)
                two = Note("two")
                store.enqueue(two)
                await until(lambda: bool(two.told))
                assert two.told == [None]
                assert no_gaps(store)

    asyncio.run(run())


@pytest.mark.requirement("P1")
def test_what_cannot_be_written_down_fails_and_its_neighbours_with_it(database: Database) -> None:
    class Bad(Note):
        def keep(self, first: int) -> list[bytes]:
            raise ValueError("cannot be encoded")

        def change(self, transaction: object, first: int) -> list[bytes]:
            raise ValueError("cannot be encoded")

    async def run() -> None:
        async with served(database) as store:
            bad, beside, after = Bad("bad"), Note("beside"), Note("after")
            store.enqueue(bad)
            store.enqueue(beside)
            await until(lambda: bool(beside.told))
            assert [unit.told[0] is not None for unit in (bad, beside)] == [True, True]
            store.enqueue(after)
            await until(lambda: bool(after.told))
            assert kept(store) == ["0 after ok"]

    asyncio.run(run())


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.requirement("P1", "R36")
def test_a_last_word_with_a_reset_behind_it_is_heard_to_the_end(
    database: Database, tmp_path_factory: pytest.TempPathFactory, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """uvloop looks at a socket no more once it was reset, and the word alone does not end the wait for an answer."""

    async def run(proxy: Proxy) -> None:
        async with served(database, f"postgresql://keyclave_app@/{database.name}?host={proxy.host}&port={proxy.port}") as store:
            first = Note("first")
            store.enqueue(first)
            await until(lambda: first.told == [None])
            proxy.reset_at(b"reset-me")
            units = [Note(f"reset-me{i}" + "x" * 50_000) for i in range(8)]
            for unit in units:
                store.enqueue(unit)
            await until(lambda: all(unit.told for unit in units))
            await until(lambda: not store.gone)
            after = Note("after")
            store.enqueue(after)
            await until(lambda: after.told == [None])
            assert no_gaps(store)

    target = f"{database.server.folder}/.s.PGSQL.{database.server.port}"
    with before(target, tmp_path_factory.mktemp("w")) as proxy, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run(proxy))

"""The data-key cache: its bounds, its partitions, one question in flight, and wiping."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyclave_client import NO_CACHE, CacheLimits, Encryptor
from keyclave_client.canonical import canonical_map
from keyclave_client.errors import Malformed, Refused, Undecipherable
from keyclave_client.local.cache import UNKNOWN_SIZE, DataKeyCache
from keyclave_client.local.datakey import DataKey
from tests.unit.client.standin import LocalKeys

CONTEXT = {"patient": "p-17"}
ENCODED = canonical_map(CONTEXT)


class HandClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def cache_of(source: LocalKeys, clock: HandClock | None = None, **limits: float) -> DataKeyCache:
    return DataKeyCache(source, CacheLimits(**limits), clock or HandClock())  # type: ignore[arg-type]


@pytest.mark.requirement("R12")
def test_a_data_key_serves_so_many_messages() -> None:
    source = LocalKeys()
    cache = cache_of(source, max_messages=3)
    keys = [cache.fresh(ENCODED, CONTEXT, 1).wrapped for _ in range(7)]

    assert [keys.index(key) for key in keys] == [0, 0, 0, 3, 3, 3, 6]
    assert source.calls == 3


@pytest.mark.requirement("R12")
def test_a_data_key_serves_so_many_bytes() -> None:
    source = LocalKeys()
    cache = cache_of(source, max_bytes=100)
    sizes = [60, 40, 1, 99, 100, 101]
    keys = [cache.fresh(ENCODED, CONTEXT, size).wrapped for size in sizes]

    assert [keys.index(key) for key in keys] == [0, 0, 2, 2, 4, 5]


def test_a_message_over_the_limit_or_of_unknown_size_has_its_own_data_key() -> None:
    source = LocalKeys()
    cache = cache_of(source, max_bytes=100)
    kept = cache.fresh(ENCODED, CONTEXT, 1).wrapped
    alone = {cache.fresh(ENCODED, CONTEXT, size).wrapped for size in (101, UNKNOWN_SIZE, UNKNOWN_SIZE)}

    assert len(alone | {kept}) == 4
    assert cache.fresh(ENCODED, CONTEXT, 1).wrapped == kept


@pytest.mark.requirement("R33")
def test_age_is_counted_from_before_the_question() -> None:
    source, clock = LocalKeys(), HandClock()
    cache = cache_of(source, clock, max_age=10)
    source.before = lambda: setattr(clock, "now", clock.now + 4)  # the server takes four seconds
    first = cache.fresh(ENCODED, CONTEXT, 1).wrapped
    clock.now += 5.9
    assert cache.fresh(ENCODED, CONTEXT, 1).wrapped == first
    clock.now += 0.2

    assert cache.fresh(ENCODED, CONTEXT, 1).wrapped != first


@pytest.mark.requirement("R33")
def test_what_the_server_refuses_now_is_refused_at_the_latest_one_age_later() -> None:
    source, clock = LocalKeys(), HandClock()
    cache = cache_of(source, clock, max_age=10)
    wrapped = cache.fresh(ENCODED, CONTEXT, 1).wrapped
    cache.open(wrapped, ENCODED, CONTEXT)

    def revoked() -> None:
        raise Refused("revoked")

    source.before = revoked
    cache.open(wrapped, ENCODED, CONTEXT)
    clock.now += 10
    with pytest.raises(Refused):
        cache.open(wrapped, ENCODED, CONTEXT)
    with pytest.raises(Refused):
        cache.fresh(ENCODED, CONTEXT, 1)


def test_contexts_do_not_share_data_keys() -> None:
    source = LocalKeys()
    cache = cache_of(source)
    wrapped = {cache.fresh(canonical_map(c), c, 1).wrapped for c in ({}, {"a": "b"}, {"a": "c"}, {"ab": ""}) for _ in range(2)}

    assert len(wrapped) == 4


def test_an_opened_data_key_is_not_given_to_another_context() -> None:
    cache = cache_of(LocalKeys())
    wrapped = cache.fresh(ENCODED, CONTEXT, 1).wrapped
    cache.open(wrapped, ENCODED, CONTEXT)

    with pytest.raises(Undecipherable):
        cache.open(wrapped, canonical_map({"patient": "p-18"}), {"patient": "p-18"})


def test_least_recently_opened_goes_first() -> None:
    source = LocalKeys()
    cache = cache_of(source, max_entries=2)
    one, two, three = (source.fresh(CONTEXT).wrapped for _ in range(3))
    for wrapped in (one, two, one, three):  # three pushes two out
        cache.open(wrapped, ENCODED, CONTEXT)
    before = source.calls
    for wrapped in (one, three):
        cache.open(wrapped, ENCODED, CONTEXT)
    assert source.calls == before
    cache.open(two, ENCODED, CONTEXT)

    assert source.calls == before + 1


@pytest.mark.requirement("P7")
def test_data_keys_are_wiped_when_they_go() -> None:
    source = LocalKeys()
    cache = cache_of(source, max_messages=1)
    for _ in range(3):
        cache.fresh(ENCODED, CONTEXT, 1)
    gc.collect()
    assert [any(plain) for plain in source.given] == [False, False, True]
    cache.clear()
    gc.collect()

    assert not any(any(plain) for plain in source.given)


@pytest.mark.requirement("P7")
def test_the_old_are_wiped_at_the_next_question_even_if_nobody_asks_for_them() -> None:
    source, clock = LocalKeys(), HandClock()
    cache = cache_of(source, clock, max_age=10)
    cache.fresh(ENCODED, CONTEXT, 1)
    clock.now += 11
    cache.fresh(b"other", {"other": ""}, 1)
    gc.collect()

    assert [any(plain) for plain in source.given] == [False, True]


def test_a_data_key_in_use_survives_its_eviction() -> None:
    source = LocalKeys()
    cache = cache_of(source)
    held = cache.fresh(ENCODED, CONTEXT, 1)
    cache.clear()
    gc.collect()
    assert any(source.given[0])
    del held
    gc.collect()

    assert not any(source.given[0])


def test_what_was_asked_before_a_clear_is_not_kept_after_it() -> None:
    source = LocalKeys()
    cache = cache_of(source)
    source.before = cache.clear
    first = cache.fresh(ENCODED, CONTEXT, 1)
    source.before = lambda: None

    assert cache.fresh(ENCODED, CONTEXT, 1).wrapped != first.wrapped


class Gate:
    """Holds the asking thread inside the source until the test opens it."""

    def __init__(self, source: LocalKeys) -> None:
        self.asked = threading.Event()
        self.open = threading.Event()
        source.before = self

    def __call__(self) -> None:
        self.asked.set()
        assert self.open.wait(30)


def wait_for_waiters(cache: DataKeyCache, count: int) -> None:
    """Return when `count` threads wait on the question in flight."""
    (asking,) = cache._protecting._asking.values()
    # a waiting thread sits on the future's condition
    condition = asking._condition
    deadline = threading.Event()
    while True:
        with condition:
            if len(condition._waiters) >= count:  # type: ignore[attr-defined]
                return
        assert not deadline.wait(0.001)


@pytest.mark.parametrize("outcome", ["key", "error"])
def test_one_thread_asks_and_the_others_share_the_outcome(outcome: str) -> None:
    source = LocalKeys()
    cache, gate = cache_of(source), Gate(source)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(cache.fresh, ENCODED, CONTEXT, 1)
        assert gate.asked.wait(30)
        others = [pool.submit(cache.fresh, ENCODED, CONTEXT, 1) for _ in range(7)]
        wait_for_waiters(cache, 7)
        if outcome == "error":
            source._give = _refuse  # type: ignore[method-assign]
        gate.open.set()
        if outcome == "key":
            assert {call.result(30).wrapped for call in (first, *others)} == {first.result().wrapped}
        else:
            assert all(isinstance(call.exception(30), Refused) for call in (first, *others))

    assert source.calls == 1


def _refuse(plain: bytearray, wrapped: bytes) -> DataKey:
    raise Refused("no")


def test_after_an_error_the_next_question_is_asked_again() -> None:
    source = LocalKeys()
    cache = cache_of(source)
    give, source._give = source._give, _refuse  # type: ignore[method-assign]
    with pytest.raises(Refused):
        cache.fresh(ENCODED, CONTEXT, 1)
    source._give = give  # type: ignore[method-assign]

    assert cache.fresh(ENCODED, CONTEXT, 1).wrapped


def test_an_interrupt_of_the_asking_thread_is_its_own() -> None:
    source = LocalKeys()
    cache, gate = cache_of(source), Gate(source)
    interrupted = []

    def interrupt() -> None:
        gate()
        source.before = lambda: None
        raise KeyboardInterrupt

    def ask() -> None:
        try:
            cache.fresh(ENCODED, CONTEXT, 1)
        except KeyboardInterrupt:
            interrupted.append(True)

    source.before = interrupt
    first = threading.Thread(target=ask)
    first.start()
    assert gate.asked.wait(30)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(cache.fresh, ENCODED, CONTEXT, 1)
        wait_for_waiters(cache, 1)
        gate.open.set()

        assert other.result(30).wrapped
    first.join(30)
    assert interrupted == [True]


def test_other_contexts_do_not_wait() -> None:
    source = LocalKeys()
    cache, gate = cache_of(source), Gate(source)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(cache.fresh, ENCODED, CONTEXT, 1)
        assert gate.asked.wait(30)
        source.before = lambda: None
        assert cache.fresh(b"other", {"other": ""}, 1).wrapped
        assert not slow.done()
        gate.open.set()
        slow.result(30)


def test_many_threads_stay_within_the_bound_and_everything_opens() -> None:
    source = LocalKeys()
    encryptor = Encryptor(source, cache=CacheLimits(max_messages=10, max_entries=2))
    contexts = [{"patient": str(number)} for number in range(5)]

    def work(number: int) -> tuple[bytes, int]:
        return encryptor.encrypt(str(number).encode(), contexts[number % 5]), number

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(work, range(2000)))
    uses: dict[bytes, int] = {}
    for blob, number in made:
        assert encryptor.decrypt(blob, contexts[number % 5]) == str(number).encode()
        uses[blob[9:142]] = uses.get(blob[9:142], 0) + 1

    assert max(uses.values()) <= 10


def test_no_cache_asks_each_time_and_keeps_nothing() -> None:
    source = LocalKeys()
    encryptor = Encryptor(source, cache=NO_CACHE)
    blob = encryptor.encrypt(b"x")
    encryptor.encrypt(b"x")
    encryptor.decrypt(blob)
    encryptor.decrypt(blob)
    gc.collect()

    assert source.calls == 4
    assert not any(any(plain) for plain in source.given)


@pytest.mark.parametrize("limits", [{"max_age": 0}, {"max_messages": 0}, {"max_bytes": -1}, {"max_entries": -1}])
def test_limits_that_bound_nothing_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(Malformed):
        CacheLimits(**limits)


def test_keys_that_are_too_old_go_at_the_next_use_whatever_is_asked_for() -> None:
    clock, source = HandClock(), LocalKeys()
    cache = cache_of(source, clock, max_age=10)
    for patient in range(100):
        cache.fresh(canonical_map({"patient": str(patient)}), {"patient": str(patient)}, 1)
    clock.now += 5
    cache.fresh(ENCODED, CONTEXT, 1)
    clock.now += 6
    cache.fresh(ENCODED, CONTEXT, 1)  # which is kept still
    gc.collect()
    assert source.calls == 101
    assert [any(plain) for plain in source.given] == [False] * 100 + [True]


def test_a_data_key_serves_several_files_where_that_is_asked_for(tmp_path: Path) -> None:
    source = LocalKeys()
    encryptor = Encryptor(source, file_cache=CacheLimits(max_bytes=2500))
    (tmp_path / "plain").write_bytes(bytes(1000))
    for number in range(4):
        encryptor.encrypt_file(tmp_path / "plain", tmp_path / str(number), CONTEXT)
    assert source.calls == 2
    for number in range(4):
        encryptor.decrypt_file(tmp_path / str(number), tmp_path / f"{number}.opened", CONTEXT)
        assert (tmp_path / f"{number}.opened").read_bytes() == bytes(1000)

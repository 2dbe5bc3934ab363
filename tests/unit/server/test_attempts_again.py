"""An attempt that is run or tried again begins as it did the first time: nothing of what came of it before is left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from keyclave.core.errors import Conflict
from keyclave.operations import attempt as attempts
from keyclave.operations.attempt import Attempt


def attempt() -> Attempt:
    ticks = iter(range(1, 1000))
    desk: Any = SimpleNamespace(clock=SimpleNamespace(now=lambda: next(ticks)))
    somebody: Any = object()
    return Attempt(desk, "encrypt", somebody, somebody, lambda _: None)


def test_a_run_leaves_nothing_to_the_next_but_when_it_came_and_the_uses_it_accounted_for() -> None:
    again = attempt()
    came, reservations = again.at, [("key_1", 1)]
    again.reservations = reservations
    for name in attempts._LEFT_BY_A_RUN:
        setattr(again, name, object())
    again.begin_again()
    fresh = attempt()
    left = {name for name in attempts._LEFT_BY_A_RUN if getattr(again, name) != getattr(fresh, name)}
    assert left == set()
    assert (again.at, again.reservations) == (came, reservations)


def test_a_try_of_the_transaction_finds_what_the_first_one_found() -> None:
    tried, item = attempt(), attempt()
    tried.inner = (item,)
    tried.answer, item.detail = "worked out before", {"name": "ward"}
    tried._begin_try()
    for one in (tried, item):
        one.answer, one.detail, one.drops = "of a transaction that was undone", {"name": "other"}, ("key_1",)
        one.error, one.failed, one.replayed = Conflict("undone", ""), 3, True
    tried._begin_try()
    assert (tried.answer, tried.detail, item.answer, item.detail) == ("worked out before", None, None, {"name": "ward"})
    for one in (tried, item):
        assert (one.drops, one.error, one.failed, one.replayed) == ((), None, 0, False)

"""The items of an execution, offline: each has its own event, at its place behind the execution, whatever the event names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keyclave_verify.approval_events import Logged
from keyclave_verify.approvals import verify_approval
from keyclave_verify.report import Report
from tests.approvals.made_log import Approved, MadeLog

pytestmark = pytest.mark.requirement("R31", "P2")

PEOPLE = ("eve", "dan", "mallory")


@pytest.fixture(scope="module")
def made() -> Approved:
    """Three people's roles, approved and changed in one execution, which failed for the last."""
    return Approved(MadeLog(), people=PEOPLE)


def check(made: Approved, items: list[int], **changes: Any) -> Report:
    bundle = json.loads(made.bundle()) | {"items": [made.log.receipt(index) for index in items]} | changes
    return verify_approval(json.dumps(bundle).encode(), "bundle", made.log.trust())


def test_items_that_are_no_keys_have_their_outcomes(made: Approved) -> None:
    report = check(made, made.items)
    assert report.faults == []
    assert report.facts["outcomes"] == ["eve: ok", "dan: ok", "mallory: unknown"]


@pytest.mark.parametrize("places", [(0, 0, 0), (0, 1, 1), (0, 1, 0), (1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 2)])
def test_no_event_stands_for_another_item(made: Approved, places: tuple[int, ...]) -> None:
    """A failure that was hidden behind the event of a success would else be told as one: "mallory: ok"."""
    report = check(made, [made.items[place] for place in places])
    assert {fault.code for fault in report.faults} >= {"items_apart", "principal_differs"}
    assert "outcomes" not in report.facts
    assert "mallory: ok" not in report.to_text(color=False)


def test_events_that_name_nothing_are_told_apart_by_their_places() -> None:
    made = Approved(MadeLog(), people=PEOPLE)
    for index in made.items:
        event = json.loads(made.log.entries[index])
        del event["detail"]
        made.log.entries[index] = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
    first, second, third = made.items
    assert check(made, made.items).good
    for places in ((first, first, third), (second, first, third), (first, second, second)):
        assert "items_apart" in {fault.code for fault in check(made, list(places)).faults}


def test_a_later_attempt_is_none_of_the_items() -> None:
    made = Approved(MadeLog(), people=PEOPLE)
    made.log.add("login", "dan")
    later = made.log.add("person-roles", "cem", approval="apr_a", detail={"principal": "mallory"})
    report = check(made, [*made.items[:2], later])
    assert [fault.code for fault in report.faults] == ["items_apart"]
    assert f"item 3 is event {later}, which is not the one behind item 2" in report.to_text(color=False)


def logged(index: int, id: str, **more: Any) -> Logged:
    return Logged(index, {"id": id, **more}, b"")


@pytest.mark.parametrize(
    ("one", "other", "stands"),
    [
        (logged(70, "n1-5"), logged(71, "n1-6"), True),  # of many nodes: places of the log and numbers of one of them
        (logged(70, "n1-5"), logged(71, "n1-7"), False),
        (logged(70, "n1-5"), logged(72, "n1-6"), False),
        (logged(70, "n1-5"), logged(71, "n2-6"), False),
        (logged(70, "n1-5"), logged(70, "n1-5"), False),
        (logged(70, "n1-5"), logged(69, "n1-4"), False),
        (logged(70, "n1-5"), logged(73, "n1-8"), False),
        (logged(70, "n1-5", part=1), logged(73, "n1-8"), True),  # of an attempt that left three events
        (logged(70, "n1-5", part=1), logged(70, "n1-5"), False),
        (logged(70, "n1-5"), logged(71, "n1-" + "9" * 5000), False),
    ],
)
def test_what_stands_behind_an_event(one: Logged, other: Logged, stands: bool) -> None:
    assert other.stands_behind(one) is stands

"""The verifier's look at events: canonical form against an independent RFC 8785 implementation, numbering, order of time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from keyclave_verify.events import FIELDS, EventOrder, parse_event
from tests.unit.audit.logs import NOON, events

pytestmark = pytest.mark.requirement("R5", "R7", "R40")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(texts.filter(lambda name: name not in FIELDS), values, max_size=6))
def test_canonical_events_are_read_and_other_spellings_are_not(more: dict[str, Any]) -> None:
    event = more | {"at": 5, "id": "n1-0"}
    canonical = rfc8785.dumps(event)
    assert parse_event(canonical) == event
    for other in (json.dumps(event).encode(), json.dumps(event, separators=(",", ":"), sort_keys=True).encode()):
        if other != canonical:
            with pytest.raises(ValueError, match="canonical"):
                parse_event(other)


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"[]",
        b'"id"',
        b'{"at":1}',
        b'{"id":"n1-0"}',
        b'{"at":true,"id":"n1-0"}',
        b'{"at":1.0,"id":"n1-0"}',
        b'{"at":1e3,"id":"n1-0"}',
        b'{"at":-0,"id":"n1-0"}',
        b'{"at":9007199254740992,"id":"n1-0"}',
        b'{"at":1,"id":0}',
        b'{"id":"n1-0","at":1}',
        b'{"at":1,"at":1,"id":"n1-0"}',
        b'{"at":1,"id":"n1-0"} ',
        b'{"at":1,"id":"n1-0","x":NaN}',
        b'{"at":1,"id":"n1-0","x":"\\u00e9"}',
        b'{"at":1,"id":"n1-0","x":"\\/"}',
        b'{"at":1,"id":"n1-0","x":"\xff"}',
        b'{"at":1,"id":"n1-0","x":"\\ud800"}',
        b'\xef\xbb\xbf{"at":1,"id":"n1-0"}',
        b'{"at":1,"id":"n1-0","x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"at":1,"id":"n1-0","x":' + b"[" * 65 + b"]" * 65 + b"}",
        '{"at":1,"id":"n1-0","é":'.encode() + b"[" * 600 + b"]" * 600 + b"}",
        '{"at":1,"id":"n1-0","é":{"\\ud800":1}}'.encode(),
        b'{"at":' + b"9" * 5000 + b',"id":"n1-0"}',
        b'{"at":1,"detail":"ann","id":"n1-0"}',
        b'{"at":1,"detail":null,"id":"n1-0"}',
        b'{"at":1,"id":"n1-0","outcome":["ok"]}',
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_no_event_is_named(entry: bytes, strict: bool) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_event(entry)
    if strict:
        (fault,) = EventOrder(strict=True).check([entry], 4711)
        assert fault.code == "not_an_event"
        assert "entry 4711" in fault.detail


def codes(entries: list[bytes], *, strict: bool) -> list[str]:
    """Return the codes of the faults found in a log of `entries`, checked in two portions."""
    order = EventOrder(strict=strict)
    half = len(entries) // 2
    return [fault.code for fault in (*order.check(entries[:half], 0), *order.check(entries[half:], half))]


@pytest.mark.parametrize("strict", [True, False])
def test_events_in_order_are_good(strict: bool) -> None:
    assert codes(events(300), strict=strict) == []
    assert codes(events(10, first=4711), strict=strict) == []  # a node may begin at any number


@pytest.mark.parametrize("strict", [True, False])
def test_the_numbering_of_each_node_is_followed_by_itself(strict: bool) -> None:
    one, two = events(20), events(20, node="n-2", first=500)
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    assert codes(mixed, strict=strict) == []
    assert codes(mixed[:6] + mixed[8:], strict=strict) == ["id_order", "id_order"]


@pytest.mark.parametrize("strict", [True, False])
def test_gaps_repeats_and_other_ids_are_named(strict: bool) -> None:
    good = events(20)
    assert codes(good[:4] + good[5:], strict=strict) == ["id_order"]
    assert codes(good[:5] + good[4:], strict=strict) == ["id_order"]
    assert "id_order" in codes([*good[:4], good[5], good[4], *good[6:]], strict=strict)
    named = [*good[:4], good[4].replace(b'"id":"n1-4"', b'"id":"n1-04"'), *good[5:]]
    assert codes(named, strict=strict) == ["id_malformed"]


@pytest.mark.parametrize("strict", [True, False])
def test_the_id_is_the_events_own_and_not_one_in_its_detail(strict: bool) -> None:
    good = events(3)
    assert b'"id":"n1-2"' in good[1]  # in its detail
    assert codes([good[0], good[1].replace(b'"id":"n1-1"', b'"id":"n1-9"'), good[2]], strict=strict)[0] == "id_order"


@pytest.mark.parametrize("strict", [True, False])
def test_a_time_that_goes_back_is_named_and_a_slow_attempt_is_not(strict: bool) -> None:
    good = events(20)
    for back, found in ((599, []), (601, ["time_order"])):
        at = (NOON - back) * 1_000_000
        late = good[10].replace(b'"at":%d' % (NOON * 1_000_000 + 10_000), b'"at":%d' % at)
        assert late != good[10]
        assert codes([*good[:10], late, *good[11:]], strict=strict) == found

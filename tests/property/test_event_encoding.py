"""Leaves are RFC 8785 canonical JSON, by the word of an independent implementation."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from keyclave.audit.event import Event, decode, encode
from keyclave.audit.event_ids import event_id, parse_event_id

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAME = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
WHOLE = st.integers(0, 2**53 - 1)


@pytest.mark.requirement("R5", "P2")
@given(
    actor=TEXT,
    at=WHOLE,
    context=st.none() | st.dictionaries(NAME, st.lists(TEXT, min_size=1, max_size=3), min_size=1, max_size=4),
    detail=st.none() | st.dictionaries(NAME, TEXT | WHOLE, min_size=1, max_size=4),
    reason=TEXT,
    version=st.integers(0, 2**31),
)
def test_an_event_is_canonical_json(
    actor: str, at: int, context: dict[str, list[str]] | None, detail: dict[str, str | int] | None, reason: str, version: int
) -> None:
    event = Event(
        actor=actor,
        at=at,
        context=None if context is None else dict(sorted(context.items())),
        detail=None if detail is None else dict(sorted(detail.items())),
        id="n-1",
        op="encrypt",
        outcome="ok",
        reason=reason,
        version=version,
    )
    leaf = encode(event)
    assert leaf == rfc8785.dumps(json.loads(leaf))
    assert decode(leaf) == event


def test_fields_are_declared_in_the_order_of_their_names() -> None:
    assert list(Event.__struct_fields__) == sorted(Event.__struct_fields__)


@given(st.text(max_size=30))
def test_an_id_is_read_in_one_way_only(text: str) -> None:
    named = parse_event_id(text)
    assert named is None or event_id(*named) == text

"""A grant made from another never reaches further, and taking a grant away never permits anything."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.identity.grants import PURPOSES, Grant, matching, wider

_OPERATIONS = ["encrypt", "decrypt", "sign", "wrap"]
_PATTERNS = ["*", "a*", "ab*", "abc", "ab", "b", "key_1", "key_2", "k*", "key_*"]
_KEYS = [("key_1", "abc"), ("key_2", "b"), ("key_3", "ab"), ("key_4", "kim"), ("key_5", "a")]
_VALUES = ["1", "2", "*"]
_NETWORKS = ["wards", "vpn"]
_NOW = 1000

_grants = st.builds(
    Grant,
    id=st.sampled_from(["gnt_a", "gnt_b", "gnt_c"]),
    tenant=st.sampled_from(["t", "t", "t", "u"]),
    grantee=st.just("app"),
    operations=st.lists(st.sampled_from(_OPERATIONS), min_size=1, unique=True).map(tuple),
    keys=st.lists(st.sampled_from(_PATTERNS), min_size=1, max_size=3).map(tuple),
    created_at=st.just(1),
    created_by=st.just("operator"),
    expires_at=st.integers(_NOW - 2, _NOW + 4),
    context=st.dictionaries(
        st.sampled_from(["patient", "ward"]), st.lists(st.sampled_from(_VALUES), min_size=1, unique=True).map(tuple)
    ),
    counted=st.booleans(),
    delegate=st.booleans(),
    ended_at=st.sampled_from([None, None, None, 5]),
    exact=st.booleans(),
    networks=st.lists(st.sampled_from(_NETWORKS), unique=True).map(tuple),
    purposes=st.lists(st.sampled_from(PURPOSES), max_size=2, unique=True).map(tuple),
    remaining=st.sampled_from([None, None, 0, 1, 3]),
    uses=st.sampled_from([None, 1, 3]),
)
_requests = st.fixed_dictionaries(
    {
        "op": st.sampled_from(_OPERATIONS),
        "key": st.sampled_from(_KEYS),
        "networks": st.frozensets(st.sampled_from(_NETWORKS)),
        "purpose": st.sampled_from(["", *PURPOSES]),
        "context": st.dictionaries(st.sampled_from(["patient", "ward", "other"]), st.sampled_from(["1", "2", "3"])),
        "now": st.integers(_NOW - 2, _NOW + 5),
    }
)


def permits(grants: tuple[Grant, ...], request: dict[str, Any]) -> list[str]:
    """Return the ids of the grants that permit a request, context and all."""
    (key_id, key_name), context = request["key"], request["context"]
    found = matching(grants, request["op"], key_id, key_name, request["networks"], request["purpose"], request["now"])
    return [grant.id for grant in found if _admits(grant, context)]


def _admits(grant: Grant, context: dict[str, str]) -> bool:
    if grant.exact and set(context) != set(grant.context):
        return False
    return all(name in context and ("*" in values or context[name] in values) for name, values in grant.context.items())


@pytest.mark.requirement("R29")
@given(_grants, _grants, _requests)
def test_what_is_not_wider_permits_nothing_more(parent: Grant, child: Grant, request: dict[str, Any]) -> None:
    if not wider(child, parent) and permits((child,), request):
        alive = msgspec.structs.replace(parent, ended_at=None, remaining=None if parent.remaining is None else 1)
        assert permits((alive,), request)
        assert request["now"] < parent.expires_at
        assert not parent.counted or child.counted
        assert not child.delegate or parent.delegate


@pytest.mark.requirement("R29")
@given(_grants, _grants, _grants)
def test_narrower_than_narrower_is_narrower(first: Grant, second: Grant, third: Grant) -> None:
    if not wider(third, second) and not wider(second, first) and second.remaining == second.uses:
        assert wider(third, first) in ("", "uses")
        if first.remaining is None:
            assert wider(third, first) == ""


@pytest.mark.requirement("R29")
@given(_grants)
def test_a_grant_is_not_wider_than_itself(grant: Grant) -> None:
    own = msgspec.structs.replace(grant, uses=grant.remaining)
    assert wider(own, own) == ""


@pytest.mark.requirement("R29")
@given(st.lists(_grants, max_size=4), st.data(), _requests)
def test_taking_a_grant_away_permits_nothing(grants: list[Grant], data: st.DataObject, request: dict[str, Any]) -> None:
    held = tuple(grants)
    if held:
        gone = data.draw(st.integers(0, len(held) - 1))
        fewer = held[:gone] + held[gone + 1 :]
        ended = msgspec.structs.replace(held[gone], ended_at=1)
        for left in (fewer, (*fewer, ended)):
            assert len(permits(left, request)) <= len(permits(held, request))
            assert set(permits(left, request)) <= set(permits(held, request))


@pytest.mark.requirement("R29")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"operations": ("encrypt", "decrypt")}, "operations"),
        ({"keys": ("a*", "b")}, "keys"),
        ({"keys": ("key_1",)}, "keys"),
        ({"keys": ("a",)}, ""),
        ({"keys": ("*",)}, "keys"),
        ({"context": {}}, "context"),
        ({"context": {"patient": ("1", "3")}}, "context"),
        ({"context": {"patient": ("*",)}}, "context"),
        ({"context": {"patient": ("2",), "ward": ("*",)}}, ""),
        ({"exact": True}, ""),
        ({"purposes": ()}, "purposes"),
        ({"purposes": ("treatment", "research")}, "purposes"),
        ({"networks": ()}, "networks"),
        ({"expires_at": 11}, "expiry"),
        ({"counted": False}, "uses"),
        ({"uses": 4}, "uses"),
        ({"uses": 3}, ""),
        ({"delegate": True}, ""),
        ({"tenant": "u"}, "tenant"),
    ],
)
def test_what_is_wider_is_named(change: dict[str, Any], said: str) -> None:
    parent = Grant(
        id="gnt_a", tenant="t", grantee="app", operations=("encrypt",), keys=("a*",), created_at=1, created_by="operator",
        expires_at=10, context={"patient": ("1", "2")}, counted=True, delegate=True, networks=("wards",),
        purposes=("treatment",), remaining=3, uses=5,
    )  # fmt: skip
    child = msgspec.structs.replace(parent, id="gnt_b", parent="gnt_a", delegate=False, uses=None, remaining=None)
    assert wider(msgspec.structs.replace(child, **change), parent) == said

"""The words everything else is written in: ids, canonical encoding, the clock that does not go back."""

from __future__ import annotations

import base64
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyclave.core.canonical import canonical, canonical_map
from keyclave.core.clock import SystemClock, to_text
from keyclave.core.errors import Malformed, Unknown
from keyclave.core.ids import RAW, from_id, to_id, to_timed_id
from keyclave.envelope.context import encode_context
from keyclave.envelope.header import authenticated, before_iv, key_info, with_length

FIELD = st.one_of(st.binary(max_size=20), st.text(max_size=10), st.integers(0, 2**64 - 1))


@given(st.lists(FIELD, max_size=4), st.lists(FIELD, max_size=4))
def test_two_lists_of_fields_never_share_an_encoding(a: list[bytes | str | int], b: list[bytes | str | int]) -> None:
    def plain(fields: list[bytes | str | int]) -> list[bytes]:
        return [f.encode() if isinstance(f, str) else f.to_bytes(8, "big") if isinstance(f, int) else f for f in fields]

    assert (canonical("x", *a) == canonical("x", *b)) == (plain(a) == plain(b))


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8)), st.dictionaries(st.text(max_size=8), st.text(max_size=8)))
def test_two_maps_never_share_an_encoding(a: dict[str, str], b: dict[str, str]) -> None:
    assert (canonical_map(a) == canonical_map(b)) == (a == b)
    assert canonical_map(dict(reversed(a.items()))) == canonical_map(a)


@given(st.text(max_size=3), st.text(st.characters(codec=None, max_codepoint=0x3000), max_size=3))
@example("", "v").via("the shortest")
@example("a b", "v").via("a space in a name")
@example("n", "\u2028").via("a line separator")
@example("n", "\xa0\xad\u200b").via("what Python does not print, but no line is forged with")
@example("n", "\ud800").via("half a surrogate")
def test_a_context_is_admitted_by_its_letters_alone(name: str, value: str) -> None:
    good = re.fullmatch(r"[!-~]{1,128}", name) and not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", value)
    if good:
        assert encode_context({name: value}) == canonical_map({name: value})
    else:
        with pytest.raises(Malformed):
            encode_context({name: value})


@given(
    st.binary(min_size=16, max_size=16), st.integers(1, 2**32 - 1), st.binary(min_size=16, max_size=16), st.sampled_from([1, 2])
)
def test_the_quick_encodings_are_the_canonical_ones(key_id: bytes, version: int, message_id: bytes, kind: int) -> None:
    assert key_info(kind, key_id, version, message_id) == canonical(
        "keyclave/message/1", bytes((1, kind)), key_id, version, message_id
    )
    header = bytes(85)
    assert authenticated(header, b"context") == canonical("keyclave/aad/1", header, b"context")


@given(st.binary(min_size=12, max_size=12), st.binary(max_size=9))
def test_what_is_authenticated_with_a_part_is_what_is_with_its_whole_header(iv: bytes, context: bytes) -> None:
    head = bytes(range(73))
    assert before_iv(head) + iv + with_length(context) == authenticated(head + iv, context)


@given(st.binary(min_size=16, max_size=16))
def test_ids_go_both_ways(raw: bytes) -> None:
    assert from_id("key", to_id("key", raw)) == raw


@given(st.binary(min_size=16, max_size=16))
def test_an_id_is_the_base32_of_the_standard(raw: bytes) -> None:
    assert to_id("key", raw) == "key_" + base64.b32encode(raw).decode().rstrip("=").lower()


@given(st.integers(0, 2**48 * 1000 - 1), st.integers(0, 2**48 * 1000 - 1), st.binary(min_size=17, max_size=17))
def test_ids_led_by_the_time_come_in_its_order(a: int, b: int, rest: bytes) -> None:
    first, second = to_timed_id("key", a, rest), to_timed_id("key", b, rest)
    raw = from_id("key", first)
    assert len(raw) == RAW and int.from_bytes(raw[:6], "big") == a // 1000
    assert (from_id("key", second) > raw) == (b // 1000 > a // 1000)
    assert from_id("key", second)[6:] == raw[6:]


@given(st.integers(0, 2**48 * 1000 - 1), st.binary(min_size=10, max_size=10))
def test_every_eighty_bits_can_follow_the_time_and_each_comes_from_bits_of_its_own(at: int, tail: bytes) -> None:
    bits = int.from_bytes(tail, "big")
    rest = bytes([bits >> 78, *(bits >> shift & 31 for shift in range(73, 2, -5)), bits & 7])
    assert from_id("key", to_timed_id("key", at, rest))[6:] == tail


@given(st.text(max_size=40))
def test_what_is_no_id_is_unknown(text: str) -> None:
    try:
        raw = from_id("key", text)
    except Unknown:
        return
    assert to_id("key", raw) == text


@pytest.mark.requirement("R33")
def test_a_clock_set_back_puts_off_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = [1_000_000_000_000], [5_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: wall[0] * 1000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: steady[0] * 1000)
    clock = SystemClock()
    assert (clock.now(), clock.behind()) == (wall[0], 0)
    before = clock.now()
    wall[0] -= 3_600_000_000  # an hour back, and two seconds later
    wall[0] += 2_000_000
    steady[0] += 2_000_000
    assert clock.now() == before + 2_000_000
    assert clock.behind() == 3_600_000_000
    wall[0] += 7_200_000_000  # set forward: it jumps along
    assert clock.now() == wall[0]
    assert SystemClock(floor=wall[0] + 9).now() == wall[0] + 9


def test_times_as_text() -> None:
    assert to_text(1_795_580_809_482_226) == "2026-11-25T04:26:49.482226Z"

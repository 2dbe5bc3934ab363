"""Threshold shares: what holds for every secret, threshold and choice of custodians."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyshamir.shamir import combine as combine_elsewhere
from pyshamir.shamir import split as split_elsewhere

from keyclave.core.errors import KeyclaveError, Malformed
from keyclave.crypto.arena import slot_from
from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.shares import LONGEST, MOST, Share, ShareSet, _inverse, combine, multiply, split

MODULE = PycaModule()
SECRETS = st.binary(min_size=1, max_size=LONGEST)
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def shared(secret: bytes, threshold: int, count: int) -> ShareSet:
    with slot_from(bytearray(secret)) as slot:
        return split(MODULE, slot, threshold, count)


@st.composite
def quorums(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """Draw a threshold, a count, and which custodians come, in which order."""
    count = draw(st.integers(2, MOST))
    threshold = draw(st.integers(2, count))
    return threshold, count, draw(st.permutations(range(count)))[:threshold]


@pytest.mark.requirement("R16")
@given(SECRETS, quorums())
def test_any_quorum_gives_the_secret_back(secret: bytes, quorum: tuple[int, int, list[int]]) -> None:
    threshold, count, come = quorum
    made = shared(secret, threshold, count)
    given_back = [Share.from_text(made.shares[i].to_text()) for i in come]
    with combine(given_back, made.check, MODULE) as again:
        assert bytes(again.view()) == secret


@pytest.mark.requirement("R16")
@pytest.mark.parametrize(("threshold", "count"), [(2, 2), (2, 4), (3, 5), (4, 6)])
def test_every_quorum_and_every_group_that_is_one_too_small(threshold: int, count: int) -> None:
    secret = bytes(range(32))
    made = shared(secret, threshold, count)
    for group in itertools.combinations(made.shares, threshold):
        with combine(group, made.check, MODULE) as again:
            assert bytes(again.view()) == secret
    for group in itertools.combinations(made.shares, threshold - 1):
        with pytest.raises(Malformed, match="1 more share is needed"):
            combine(group, made.check, MODULE)


@pytest.mark.requirement("R16")
@pytest.mark.parametrize("threshold", [2, 3])
def test_one_share_too_few_fits_every_secret_equally(threshold: int) -> None:
    """Whatever a byte of the secret is, exactly one further share value at a given place would make it so: nothing is known of it."""
    made = shared(b"\x5a", threshold, threshold)
    known = made.shares[: threshold - 1]
    missing = made.shares[threshold - 1]
    would_be = set()
    for value in range(256):
        forged = Share(made.set_id, threshold, missing.index, slot_from(bytearray([value])))
        for byte in range(256):
            with slot_from(bytearray([byte])) as candidate:
                check = MODULE.key_check(candidate)
            try:
                combine([*known, forged], check, MODULE).wipe()
            except Malformed:
                continue
            would_be.add(byte)
            break
    assert would_be == set(range(256))


@given(SECRETS, quorums())
def test_an_independent_implementation_combines_ours(secret: bytes, quorum: tuple[int, int, list[int]]) -> None:
    threshold, count, come = quorum
    made = shared(secret, threshold, count)
    parts = [bytearray(bytes(made.shares[i].view()) + bytes([made.shares[i].index])) for i in come]
    assert bytes(combine_elsewhere(parts)) == secret


@given(st.binary(min_size=2, max_size=LONGEST), st.integers(2, 5), st.integers(0, 3))
def test_ours_combines_an_independent_implementations(secret: bytes, threshold: int, more: int) -> None:
    count = threshold + more
    with slot_from(bytearray(secret)) as slot:
        check = MODULE.key_check(slot)
    parts = [bytes(part) for part in split_elsewhere(secret, count, threshold)]
    # its x coordinates are any of 1 to 255, which a share's text would refuse: the arithmetic takes them all the same
    shares = [Share(b"test", threshold, part[-1], slot_from(part[:-1])) for part in parts]
    with combine(shares[:threshold], check, MODULE) as again:
        assert bytes(again.view()) == secret


@pytest.mark.requirement("R16")
@given(st.data())
def test_one_wrong_character_is_named_before_anything_is_combined(data: st.DataObject) -> None:
    made = shared(bytes(range(32)), 2, 2)
    text = made.shares[0].to_text()
    at = data.draw(st.sampled_from([i for i, c in enumerate(text) if i >= 5 and c != "-"]))
    digit = data.draw(st.sampled_from([d for d in DIGITS if d != text[at]]))
    with pytest.raises(Malformed, match="typing error"):
        Share.from_text(text[:at] + digit + text[at + 1 :])


def test_every_single_wrong_character_of_a_share_is_named() -> None:
    text = shared(bytes(range(16)), 2, 2).shares[1].to_text()
    tried = 0
    for at, written in enumerate(text):
        for digit in DIGITS if at >= 5 and written != "-" else "":
            if digit != written:
                tried += 1
                with pytest.raises(Malformed, match="typing error"):
                    Share.from_text(text[:at] + digit + text[at + 1 :])
    assert tried == 31 * len(text[5:].replace("-", ""))


@given(
    st.text(max_size=200)
    | st.text("kcs1- OIL" + DIGITS, max_size=200).map(lambda t: "kcs1-" + t)
    | st.binary(max_size=90).map(repr)
)
def test_text_that_is_no_share_is_refused_and_nothing_else(text: str) -> None:
    with pytest.raises(KeyclaveError) as refused:
        Share.from_text(text)
    assert type(refused.value) is Malformed


@given(SECRETS, st.integers(0, 2**32))
def test_however_people_space_and_case_it(secret: bytes, seed: int) -> None:
    text = shared(secret, 2, 2).shares[0].to_text()
    chance = random.Random(seed)
    spellings = {"0": "0Oo", "1": "1IiLl", "-": ["-", " ", "", "\u2013", "\n"]}
    written = "".join(chance.choice(spellings.get(c, c + c.lower())) for c in text)
    assert Share.from_text(written).to_text() == text


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_the_field(a: int, b: int, c: int) -> None:
    assert multiply(a, b) == multiply(b, a)
    assert multiply(a, multiply(b, c)) == multiply(multiply(a, b), c)
    assert multiply(a, b ^ c) == multiply(a, b) ^ multiply(a, c)
    assert multiply(a, 1) == a


def test_the_field_is_the_one_of_fips_197_and_every_element_has_its_inverse() -> None:
    assert multiply(0x57, 0x83) == 0xC1  # FIPS 197 section 4.2
    assert all(multiply(a, _inverse(a)) == 1 for a in range(1, 256))

"""Hashes of passwords as they are kept: at their full cost, and as another implementation computes them."""

from __future__ import annotations

import pytest

from keyclave.crypto.passwords import SALT, decoy, hash_password, verify_password

PASSWORD, SALT_GIVEN = "four quiet lanterns", bytes(range(SALT))
# Argon2id version 1.3, 19 MiB, two passes, one lane, 32 bytes, by the reference implementation in C (argon2-cffi 25).
EXPECTED = "151d6e14e8fd3ae2a4913c6aaa75bbef7b53e795f2295ce17583397951086ca6"

pytestmark = pytest.mark.requirement("R30")


def test_a_hash_is_what_the_reference_gives_at_the_cost_that_is_promised() -> None:
    assert hash_password(PASSWORD, SALT_GIVEN) == b"\x01" + SALT_GIVEN + bytes.fromhex(EXPECTED)


def test_the_right_password_verifies_however_it_is_spelt_and_no_other() -> None:
    kept = hash_password("caf\u00e9 at noon", SALT_GIVEN)
    assert verify_password("cafe\u0301 at noon", kept)  # composed or not, it is the same password
    assert not verify_password("cafe at noon", kept)
    assert not verify_password("caf\u00e9 at noon", b"\x02" + kept[1:])  # of parameters that are not ours
    assert not verify_password("caf\u00e9 at noon", decoy(SALT_GIVEN))

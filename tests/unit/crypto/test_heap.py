"""Overwriting what libraries leave on the ordinary heap."""

from __future__ import annotations

import pytest

from keyclave.crypto import heap


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("length", [2, 3, 16, 33, 4096])
def test_a_bytes_object_is_overwritten_where_it_lies(length: int) -> None:
    secret = bytes(bytearray(range(1, 251)) * 17)[:length]
    heap.wipe_bytes(secret)
    assert secret == bytes(length)


@pytest.mark.parametrize("shared", [b"", b"\x00", b"A", b"\xff"])
def test_objects_that_the_interpreter_shares_are_left_alone(shared: bytes) -> None:
    heap.wipe_bytes(shared)
    assert [bytes([n]) for n in b"\x00A\xff"] == [b"\x00", b"A", b"\xff"]

"""Overwriting what libraries leave on the ordinary heap."""

from __future__ import annotations

import ctypes

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


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("size", [24, 40, 56, 264, 1032])
def test_a_chunk_that_was_just_freed_is_overwritten(size: int) -> None:
    allocator = heap._allocator()
    chunk = allocator.malloc(size)
    ctypes.memset(chunk, 0xA5, size)
    allocator.free(chunk)
    assert ctypes.string_at(chunk, size)[16:] == b"\xa5" * (size - 16), "the allocator itself does not wipe"
    heap.scrub(heap.EVERYTHING)
    assert ctypes.string_at(chunk, size)[16:] == bytes(size - 16)

"""Overwriting what libraries leave on the ordinary heap."""

from __future__ import annotations

import ctypes

import pytest

from keyclave.crypto import heap


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("length", [2, 3, 16, 31, 32, 33, 63, 64, 65, 4096])
def test_a_bytes_object_is_overwritten_where_it_lies(length: int) -> None:
    secret = bytes(bytearray(range(1, 251)) * 17)[:length]
    heap.wipe_bytes(secret)
    assert secret == bytes(length)


@pytest.mark.parametrize("shared", [b"", b"\x00", b"A", b"\xff"])
def test_objects_that_the_interpreter_shares_are_left_alone(shared: bytes) -> None:
    heap.wipe_bytes(shared)
    assert [bytes([n]) for n in b"\x00A\xff"] == [b"\x00", b"A", b"\xff"]


def residue_after(size: int, sizes: tuple[int, ...]) -> int:
    """Free 200 chunks full of a mark, scrubbing after each, and count those in which the mark is still to be read."""
    allocator = heap._allocator()
    mark, left = b"\xa5" * 8, 0
    for _ in range(200):
        chunk = allocator.malloc(size)
        ctypes.memset(chunk, 0xA5, size)
        allocator.free(chunk)
        heap.scrub(sizes)
        left += mark in ctypes.string_at(chunk, size)
    return left


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("size", [40, 56, 104, 264, 520, 1032])
def test_what_was_just_freed_is_overwritten(size: int) -> None:
    assert residue_after(size, ()) > 190, "the allocator itself does not wipe"
    assert residue_after(size, heap.EVERYTHING) <= 2, "now and then another owner's free comes between"


@pytest.mark.requirement("P7")
def test_memory_that_is_free_goes_back_to_the_system() -> None:
    """Chunks below glibc's own threshold, with one kept above them, which it would keep for good."""
    allocator = heap._allocator()
    chunks = [allocator.malloc(64 * 1024) for _ in range(512)]
    for chunk in chunks:
        ctypes.memset(chunk, 0xA5, 64 * 1024)
    for chunk in chunks[:-1]:
        allocator.free(chunk)
    before = resident()
    heap.give_back()
    given = before - resident()
    allocator.free(chunks[-1])
    assert given > 24 * 1024


def resident() -> int:
    """Return the KiB of this process that are in memory and of no file."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))

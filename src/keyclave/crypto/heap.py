"""The ordinary heap, where a library leaves secrets behind: overwriting what it returned, and what it freed without wiping.

DANGER: `wipe_bytes` and `scrub` write to memory that Python believes immutable or free. They are for this room alone.
"""

from __future__ import annotations

import ctypes
import functools
from typing import NamedTuple

_HEADER = bytes.__basicsize__ - 1  # where the payload of a bytes object begins
_SHORT = {length: ((ctypes.c_char * length).from_address, bytes(length)) for length in (32, 64)}
"""What the hot path draws: written through a type made for it, in a fourth of the time."""


def wipe_bytes(secret: bytes) -> None:
    """Overwrite a bytes object in place: only for a fresh secret that a library returned and nobody else refers to.

    Nothing may hash, intern or share the object. Single bytes and the empty one are shared by the interpreter and left alone.
    """
    length = len(secret)
    short = _SHORT.get(length)
    if short is not None:
        at, zeros = short
        at(id(secret) + _HEADER).raw = zeros
    elif length > 1:
        ctypes.memset(id(secret) + _HEADER, 0, length)


def give_back() -> None:
    """Return to the system whole pages that are free: what lay in them, plaintext among it, is gone, and others may have them.

    A batch of a thousand items leaves megabytes that glibc would keep for the next one. It takes less than a millisecond; other
    C libraries keep nothing, or know no such call.
    """
    trim = getattr(ctypes.PyDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Allocator(NamedTuple):
    malloc: ctypes._NamedFuncPointer
    free: ctypes._NamedFuncPointer
    memset: ctypes._NamedFuncPointer


@functools.cache
def _allocator() -> _Allocator:
    libc = ctypes.PyDLL(None)  # keeps the interpreter's lock: these calls take nanoseconds
    malloc, free, memset = libc.malloc, libc.free, libc.memset
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    memset.restype, memset.argtypes = None, [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    return _Allocator(malloc, free, memset)


SCALARS = tuple(range(24, 120, 16))
"""Usable sizes of the chunks that hold elliptic-curve scalars, seeds and shared secrets."""

EVERYTHING = (*range(24, 1048, 16), 2056, 4104, 8200)
"""All sizes that the allocator keeps per thread, and those through which the encoding of an RSA key grows."""

_DEEP = 8  # glibc keeps up to 7 freed chunks of a size for a thread


def scrub(sizes: tuple[int, ...]) -> None:
    """Overwrite chunks of those sizes that this thread freed last, as far as the allocator gives them out again.

    The `cryptography` wheel parses and encodes private keys through buffers that it frees as they are (its numbers are not
    cleansed like OpenSSL's keys), and the allocator gives a thread its own freed chunks back, the last one first. Run right after
    such a call, on the same thread. It is not a guarantee of the allocator's; tests/failure/test_memory_scan.py shows the effect.
    """
    malloc, free, memset = _allocator()
    for size in sizes:
        taken = [malloc(size) for _ in range(_DEEP)]
        for chunk in taken:
            if chunk:
                memset(chunk, 0, size)
                free(chunk)

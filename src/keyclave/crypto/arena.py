"""Locked memory for key bytes, and the handle through which everybody else holds them.

An arena is a piece of memory that is not swapped, not dumped, not inherited by a child, and wiped: `memfd_secret(2)` where
the kernel
has it (then not even root reads it from outside), else anonymous memory with mlock. It is cut into cells of 64 bytes; a
secret takes
as many neighbouring cells as it needs. A `Slot` is the handle: it does not print, copy, pickle, hash or iterate, and compares in
constant time. `view()` is the one way to the bytes, for this room and the roots; memory whose view is still out is never reused.
"""

from __future__ import annotations

import ctypes
import hmac
import mmap
import os
import resource
import threading
from typing import Any, NoReturn

from keyclave.core.errors import Broken, Malformed

Buffer = bytes | bytearray | memoryview

CELL = 64
ARENA = 1 << 20  # bytes: 16,384 cells
LARGEST = 16 * 1024  # bytes of one secret

_SYS_MEMFD_SECRET = 447
_PR_SET_DUMPABLE = 4
_MADV_DONTFORK = 10
_MADV_DONTDUMP = 16
_O_CLOEXEC = os.O_CLOEXEC


def lock_down() -> None:
    """Forbid core dumps and other processes of the same user from reading this one (prctl(2), PR_SET_DUMPABLE)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise Broken("the process cannot be made undumpable", "see the kernel's settings for prctl")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _map_secret(size: int) -> mmap.mmap | None:
    """Return memory of memfd_secret(2), or None where the kernel has none to give."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(_SYS_MEMFD_SECRET, _O_CLOEXEC)
    if descriptor < 0:
        return None
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


def _map_locked(size: int) -> mmap.mmap:
    """Return anonymous memory that is locked into RAM."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)) != 0:
        raise Broken("memory for keys cannot be locked", "raise LimitMEMLOCK (RLIMIT_MEMLOCK) to at least 8 MiB")
    return memory


class Arena:
    """One piece of locked memory and which of its cells are taken."""

    def __init__(self, size: int = ARENA) -> None:
        memory = _map_secret(size)
        self.secret = memory is not None
        if memory is None:
            memory = _map_locked(size)
            memory.madvise(_MADV_DONTDUMP)
        memory.madvise(_MADV_DONTFORK)  # a child must not hold a copy, nor a mapping of the same pages
        self._memory = memory
        self._view = memoryview(memory)
        self._taken = bytearray(size // CELL)
        self._hint = 0

    def take(self, cells: int) -> int | None:
        """Take neighbouring cells; return the first, or None where there is no room."""
        wanted = bytes(cells)
        first = self._taken.find(wanted, self._hint)
        if first < 0:
            first = self._taken.find(wanted)
            if first < 0:
                return None
        self._taken[first : first + cells] = b"\x01" * cells
        self._hint = first + cells
        return first

    def give_back(self, first: int, cells: int) -> None:
        """Return cells that have been wiped."""
        self._taken[first : first + cells] = bytes(cells)

    def piece(self, first: int, length: int) -> memoryview:
        """Return the memory of a secret."""
        return self._view[first * CELL : first * CELL + length]


class _Arenas:
    """All arenas of the process; grows by one when full. Nothing is mapped before the first secret."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a dying slot may give back while this thread takes
        self._arenas: list[Arena] = []

    def take(self, cells: int) -> tuple[Arena, int]:
        with self._lock:
            for arena in reversed(self._arenas):
                first = arena.take(cells)
                if first is not None:
                    return arena, first
            arena = Arena()
            self._arenas.append(arena)
            found = arena.take(cells)
            if found is None:
                raise Broken("an empty arena has no room")
            return arena, found

    def give_back(self, arena: Arena, first: int, cells: int) -> None:
        with self._lock:
            arena.give_back(first, cells)

    def all_secret(self) -> bool:
        with self._lock:
            return bool(self._arenas) and all(a.secret for a in self._arenas)


_ARENAS = _Arenas()


def in_secret_memory() -> bool:
    """Tell whether keys lie in memory that even root cannot read from outside (memfd_secret)."""
    return _ARENAS.all_secret()


class Slot:
    """A secret of a few bytes in locked memory."""

    __slots__ = ("__weakref__", "_arena", "_cells", "_first", "_view")

    _home = _ARENAS  # held by the class: at the interpreter's end the module's names go first

    def __init__(self, length: int) -> None:
        """Take room for `length` bytes, all zero."""
        self._view: memoryview | None = None
        if not 0 < length <= LARGEST:
            raise Malformed(f"a secret has 1 to {LARGEST} bytes", "this is none")
        self._cells = -(-length // CELL)
        self._arena, self._first = self._home.take(self._cells)
        self._view = self._arena.piece(self._first, length)

    def view(self) -> memoryview:
        """Return the bytes in place. Only for the crypto room and the roots; it must not outlive the slot."""
        view = self._view
        if view is None:
            raise Broken("a key was used after it was wiped", "this is a fault of the server: report it")
        return view

    def same_as(self, other: Slot) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.view(), other.view())

    def wipe(self) -> None:
        """Overwrite the bytes and give the memory back. A second time does nothing."""
        view, self._view = self._view, None
        if view is None:
            return
        view[:] = bytes(len(view))
        try:
            view.release()
        except BufferError:
            return  # a view of it is still out: the cells stay taken, wiped, for good
        self._home.give_back(self._arena, self._first, self._cells)

    def __len__(self) -> int:
        return len(self.view())

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.wipe()

    def __del__(self) -> None:
        if getattr(self, "_view", None) is not None:
            self.wipe()

    def __repr__(self) -> str:
        return "<Slot>"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def _shy(self, *_arguments: Any) -> NoReturn:
        raise TypeError("key bytes are not copied, pickled or listed")

    __reduce__ = __reduce_ex__ = __copy__ = __deepcopy__ = __iter__ = __bytes__ = __getitem__ = _shy


def slot_from(source: Buffer) -> Slot:
    """Return a slot with a copy of `source`; a bytearray is wiped, bytes cannot be (see `wipe_bytes`)."""
    slot = Slot(len(source))
    slot.view()[:] = source
    if isinstance(source, bytearray):
        source[:] = bytes(len(source))
    return slot


_BYTES_HEADER = bytes.__basicsize__ - 1  # where the payload of a bytes object begins


def wipe_bytes(secret: bytes) -> None:
    """Overwrite a bytes object in place. DANGER: only for fresh secrets that a library returned and nobody else refers to.

    Python never does this, so nothing may hash, intern or share the object; single bytes and the empty one are shared by the
    interpreter and left alone.
    """
    if len(secret) > 1:
        ctypes.memset(id(secret) + _BYTES_HEADER, 0, len(secret))

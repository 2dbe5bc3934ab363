"""Locked memory for key bytes, and the handle through which everybody else holds them.

An arena is one mapping of locked memory, cut into cells of 64 bytes; a secret takes as many neighbouring cells as it needs. A
`Slot` is the handle: it does not print, copy, pickle, hash by content or iterate, and compares in constant time. `view()` is the
one way to the bytes, for this room and the roots.

The cells of a secret belong to a `Piece`, an object that exports them as a buffer. Python keeps it alive as long as a view of it,
or a slice of such a view, is out; when the last one goes the piece wipes its cells and gives them back. So memory is never handed
out again under a view that somebody forgot, and no view can be made to read another secret.
"""

from __future__ import annotations

import ctypes
import functools
import hmac
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from keyclave.core.errors import Broken, Malformed
from keyclave.crypto.heap import wipe_bytes
from keyclave.crypto.locked_memory import Mapping, lock_down

__all__ = ["Arena", "Buffer", "Slot", "in_secret_memory", "in_use", "lock_down", "slot_from", "wipe_bytes"]

Buffer = bytes | bytearray | memoryview

CELL = 64
ARENA = 1 << 20  # bytes of one mapping: 16,384 cells
LARGEST = 16 * 1024  # bytes of one secret


class _Byte(ctypes.Union):
    """One byte whose buffer has the plain format "B"; ctypes' own bytes say "<B", which memoryview cannot index."""

    _fields_ = (("value", ctypes.c_ubyte),)


def _give_back(piece: Any, cell: int = CELL) -> None:
    """Wipe a piece that nobody can reach any more and return its cells.

    No lock: the collector may run this at any moment. No global name: the interpreter may be going down around it.
    """
    arena, first, cells = piece.place
    if arena.here:
        at, size = first * cell, cells * cell
        arena.whole[at : at + size] = bytes(size)
        arena.returned.append((first, cells))


@functools.cache
def _piece_type(cells: int) -> Any:
    """Return the type of pieces of that many cells."""
    return type("Piece", (_Byte * (cells * CELL),), {"__del__": _give_back})


class Arena:
    """One mapping of locked memory and which of its cells are taken."""

    def __init__(self, size: int = ARENA, *, secret: bool = True) -> None:
        self._mapping = Mapping(size, secret=secret)
        self.secret = self._mapping.secret
        self.here = True  # False in a forked child, where the memory is not mapped
        self.whole = self._mapping.view
        self.returned: deque[tuple[int, int]] = deque()
        self._taken = bytearray(size // CELL)
        self._hint = 0

    def take(self, cells: int) -> Any | None:
        """Take neighbouring cells, all zero, as a piece; None where there is no room. One thread at a time."""
        first = self._again(cells) if self.returned else -1
        if first < 0:
            first = self._find(cells)
            if first < 0:
                return None
        piece = _piece_type(cells).from_address(self._mapping.address + first * CELL)
        piece.place = self, first, cells
        return piece

    def _again(self, cells: int) -> int:
        """Mark what came back as free; but if the piece that came last has the size that is wanted, it just stays taken."""
        first, count = self.returned.pop()
        if count == cells:
            return first
        self.returned.append((first, count))
        while self.returned:
            first, count = self.returned.popleft()
            self._taken[first : first + count] = bytes(count)
            self._hint = min(self._hint, first)
        return -1

    def _find(self, cells: int) -> int:
        """Find and mark neighbouring cells; -1 where there is no room."""
        wanted = bytes(cells)
        # single cells from the front, longer pieces from the back: a hole left by a key is refilled by a key
        first = self._taken.find(wanted, self._hint) if cells == 1 else self._taken.rfind(wanted)
        if first >= 0:
            self._taken[first : first + cells] = b"\x01" * cells
            if cells == 1:
                self._hint = first + 1
        return first

    def free(self) -> int:
        """Return how many cells are free."""
        return self._taken.count(0) + sum(count for _, count in self.returned)


class _Arenas:
    """All arenas of the process; grows by one when full. Nothing is mapped before the first secret."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arenas: list[Arena] = []
        self._abandoned: list[Arena] = []

    def take(self, cells: int) -> Any:
        with self._lock:
            for arena in reversed(self._arenas):
                piece = arena.take(cells)
                if piece is not None:
                    return piece
            if not self._arenas:
                os.register_at_fork(after_in_child=self._leave)
            arena = Arena()
            self._arenas.append(arena)
            return arena.take(cells)

    def _leave(self) -> None:
        """In a forked child: the parent's keys are not here, and nobody may wipe what is not mapped."""
        for arena in self._arenas:
            arena.here = False
        self._abandoned += self._arenas  # collected, they would unmap addresses that are this child's own by now
        self._arenas = []
        self._lock = threading.Lock()

    def all_secret(self) -> bool:
        return bool(self._arenas) and all(arena.secret for arena in self._arenas)


_ARENAS = _Arenas()


def in_secret_memory() -> bool:
    """Tell whether keys lie in memory that even root cannot read from outside (memfd_secret)."""
    return _ARENAS.all_secret()


class Slot:
    """A secret of a few bytes in locked memory. Leaving its `with` block, or losing the last reference to it, wipes it."""

    __slots__ = ("__weakref__", "_arena", "_goes_too", "_view")

    def __init__(self, length: int) -> None:
        """Take room for `length` bytes, all zero."""
        self._view: memoryview | None = None
        self._goes_too: Callable[[], object] | None = None
        if not 0 < length <= LARGEST:
            raise Malformed(f"a secret has 1 to {LARGEST} bytes, not {length}", "send a secret of such a length")
        piece = _ARENAS.take(-(-length // CELL))
        self._arena: Arena = piece.place[0]
        self._view = memoryview(piece)[:length]

    def view(self) -> memoryview:
        """Return the bytes in place. Only for the crypto room and the roots. After `wipe` the view reads zeros."""
        view = self._view
        if view is None or not self._arena.here:
            raise Broken(
                "a key was used after it was wiped", "try again; if it happens again report it, it is a fault of the server"
            )
        return view[:]

    @property
    def wiped(self) -> bool:
        """Tell whether the bytes are gone. Who computed with a view asks afterwards, lest the answer be made with zeros."""
        return self._view is None

    def same_as(self, other: Slot) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.view(), other.view())

    def take_along(self, forget: Callable[[], object]) -> None:
        """Have `forget` called when this slot is wiped, by whoever keeps something made from its bytes. One at a time."""
        self._goes_too = forget
        if self._view is None:  # wiped by another thread meanwhile
            forget()

    def wipe(self) -> None:
        """Overwrite the bytes now; the memory goes back once no view is out. A second time does nothing."""
        view, self._view = self._view, None
        if view is None:
            return
        if self._arena.here:
            view[:] = bytes(len(view))
        forget, self._goes_too = self._goes_too, None
        if forget is not None:
            forget()

    def __len__(self) -> int:
        return len(self.view())

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.wipe()

    def __del__(self) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "<Slot>"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def _shy(self, *_arguments: Any) -> NoReturn:
        raise TypeError("key bytes are not copied, pickled or listed")

    __reduce__ = __reduce_ex__ = __copy__ = __deepcopy__ = __iter__ = __bytes__ = __getitem__ = _shy


def in_use(key: Slot) -> None:
    """Refuse to give out what was computed if the key was wiped meanwhile."""
    if key.wiped:
        raise Broken(
            "a key was wiped while it was in use", "the server is being sealed, or the key destroyed: try again afterwards"
        )


def slot_from(source: Buffer) -> Slot:
    """Return a slot with a copy of `source`; a bytearray is wiped, bytes cannot be (see `keyclave.crypto.heap.wipe_bytes`)."""
    slot = Slot(len(source))
    slot.view()[:] = source
    if isinstance(source, bytearray):
        source[:] = bytes(len(source))
    return slot

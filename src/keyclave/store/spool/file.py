"""One spool: a head, then records of events, each synced before anybody is answered for what it holds.

Checksums are chained, so that a record which was lost, moved or comes from another spool is told from one that was written here.
They are against a failing disk and a crash; against whoever may write the file there is only its owner and mode.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from keyclave.core import limits
from keyclave.core.errors import Broken, Unavailable
from keyclave.crypto.digest import sha256
from keyclave.store.entries import pack, unpack_row
from keyclave.store.interface import Leaves
from keyclave.store.spool.folder import Folder

MARKER = b"keyclave-spool/1"
_NAME = 16
_DIGEST = 32
_RECORD = struct.Struct(">IIQ")
_SHORTEST = len(MARKER) + _NAME + 1 + _DIGEST
_LONGEST_HEAD = _SHORTEST + 255
RECORD_HEAD = _RECORD.size + _DIGEST

Ending = Literal["whole", "torn", "damaged"]


class Record(NamedTuple):
    """A record as it was read: `packed` is what becomes a row of the journal."""

    first: int
    events: int
    packed: bytes


class Spool:
    """The spool that this process writes. Not thread-safe."""

    def __init__(self, folder: Folder, journal: str, cluster: str, limit: int) -> None:
        """Make it. `limit`: bytes that the file may grow to."""
        self.journal = journal
        self.next = 0  # the number of the next event
        self.broken = False
        self._limit = limit
        self._folder = folder
        named = cluster.encode("ascii")
        head = MARKER + journal.encode("ascii") + bytes([len(named)]) + named
        self._chain = sha256(head)
        self._end = 0
        self._file = folder.create(self.name)
        try:
            self._write(head + self._chain)
        except BaseException:
            os.close(self._file)
            raise

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.journal}.spool"

    def append(self, leaves: Leaves) -> None:
        """Keep events: when this returns they are on the disk. If it raises, nobody may be answered for them."""
        if self.broken:
            raise _unusable()
        packed = pack(leaves)
        head = _RECORD.pack(len(packed), len(leaves), self.next)
        chain = sha256(self._chain + head + packed)
        if self._end + RECORD_HEAD + len(packed) > self._limit:
            raise Unavailable("the database does not answer, and the spool is full: nothing was done", "repeat it in a moment")
        self._write(head + chain + packed)
        self._chain = chain
        self.next += len(leaves)

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
        except OSError:
            self._take_back()
            raise
        try:
            os.fdatasync(self._file)
        except OSError:
            self.broken = True  # what the disk has is unknown, and the kernel may say next time that all is well
            raise
        self._end += len(data)

    def _take_back(self) -> None:
        """Cut off what was written in part, so that the next record stands where a reader looks for it."""
        try:
            os.ftruncate(self._file, self._end)
        except OSError:
            self.broken = True

    def close(self) -> None:
        """Let go of it; an empty one is deleted. What it holds is for whoever locks it next."""
        try:
            if not self.next and not self.broken:
                self._folder.remove(self.name)
        finally:
            os.close(self._file)


class Reading:
    """A spool whose writer is dead. `journal` is empty for one that was never written to."""

    def __init__(self, file: int, name: str) -> None:
        """Read the head of a locked file called `name`; a head that is not this file's is `Broken`."""
        self._file = file
        self._size = os.fstat(file).st_size
        self.journal = self.cluster = ""
        self.ending: Ending = "whole"
        self.events = 0
        head = os.pread(file, _LONGEST_HEAD, 0)
        end = len(MARKER) + _NAME + 1 + (head[len(MARKER) + _NAME] if len(head) > len(MARKER) + _NAME else 0)
        self._at = end + _DIGEST
        self._chain = head[end : self._at]
        if len(head) >= self._at and self._chain == sha256(head[:end]) and head.startswith(MARKER):
            self.journal = head[len(MARKER) : len(MARKER) + _NAME].decode("ascii")
            self.cluster = head[len(MARKER) + _NAME + 1 : end].decode("ascii")
        elif (len(head) >= self._at and not self._only_zeros(0)) or _hides_a_head(head):
            raise Broken(f"the spool {name} has no head", "keep it as evidence, and look at the disk")
        if self.journal and f"{self.journal}.spool" != name:
            raise Broken(f"the spool {name} is called {self.journal} inside", "give it its own name again")

    def records(self) -> Iterator[Record]:
        """Yield what is whole; `ending` says then what follows it."""
        while self.journal and self._at < self._size:
            record = self._record()
            if record is None:
                return
            self.events += record.events
            yield record

    def _record(self) -> Record | None:
        head = os.pread(self._file, RECORD_HEAD, self._at)
        if len(head) < RECORD_HEAD:
            self.ending = "torn"
            return None
        size, count, first = _RECORD.unpack_from(head)
        end = self._at + RECORD_HEAD + size
        packed = os.pread(self._file, size, self._at + RECORD_HEAD) if end <= self._size else b""
        chain = sha256(self._chain + head[: _RECORD.size] + packed)
        fits = len(packed) == size and count > 0 and first == self.events and chain == head[_RECORD.size :]
        if not fits or not _holds(packed, count):
            self.ending = "torn" if end >= self._size or self._only_zeros(self._at) else "damaged"
            return None
        self._at, self._chain = end, chain
        return Record(first, count, packed)

    def _only_zeros(self, start: int) -> bool:
        """Tell whether nothing follows but zeros: the file had grown, and what was to stand there had not arrived."""
        return not any(any(os.pread(self._file, 1 << 20, at)) for at in range(start, self._size, 1 << 20))


def _holds(packed: bytes, count: int) -> bool:
    try:
        unpack_row(packed, count)
    except ValueError:
        return False
    return True


def _hides_a_head(head: bytes) -> bool:
    """Tell whether a whole head is there by another length than it says: then that is what was damaged, and events may follow."""
    ends = range(len(MARKER) + _NAME + 1, len(head) - _DIGEST + 1)
    said = len(MARKER) + _NAME
    return any(sha256(head[:said] + bytes((end - said - 1,)) + head[said + 1 : end]) == head[end : end + _DIGEST] for end in ends)


def _unusable() -> Unavailable:
    return Unavailable("the database does not answer, and the spool cannot be written", "repeat it at another node")


assert limits.ENTRY < 1 << 16  # noqa: S101 - as the journal packs them

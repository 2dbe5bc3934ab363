"""Encoded events as they lie in a row: each behind its uint16 length, a piece of a C2SP entry bundle."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain

from keyclave.core import limits

_LENGTH = struct.Struct(">H")


def pack(entries: Sequence[bytes]) -> bytes:
    """Return the entries, each behind its length."""
    lengths = map(_LENGTH.pack, map(len, entries))
    return b"".join(chain.from_iterable(zip(lengths, entries, strict=True)))


def unpack(rows: Iterable[tuple[int, int, bytes]], first: int, count: int) -> list[bytes]:
    """Return up to `count` entries from number `first` on, out of rows (number of the first entry, entries, packed) in order.

    Each row holds as many as it says, and begins where the one before it ends; else `ValueError`.
    """
    out: list[bytes] = []
    expected: int | None = None
    for number, held, packed in rows:
        if expected is not None and number != expected:
            raise ValueError(f"a row begins at {number} where the one before it ends at {expected}")
        entries = unpack_row(packed, held)
        expected = number + held
        out += entries[max(first - number, 0) : max(first + count - number, 0)]
    return out


def unpack_row(packed: bytes, count: int) -> list[bytes]:
    """Return the entries of one row, which has to hold so many and nothing else; else `ValueError`."""
    if not isinstance(packed, bytes):  # SQLite keeps in any column what it is given
        raise ValueError("a row holds no bytes")
    out: list[bytes] = []
    offset = 0
    while offset < len(packed):
        end = offset + 2 + int.from_bytes(packed[offset : offset + 2], "big")
        if offset + 2 > len(packed) or end > len(packed):
            raise ValueError("an entry goes on beyond its row")
        out.append(packed[offset + 2 : end])
        offset = end
    if len(out) != count or not count:
        raise ValueError(f"a row holds {len(out)} entries and says {count}")
    return out


assert limits.ENTRY < 1 << 16  # noqa: S101 - the length of an entry fits its uint16

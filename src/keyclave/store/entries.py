"""Encoded events as they lie in a row: each behind its uint16 length, a piece of a C2SP entry bundle."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from keyclave.core import limits

_LENGTH = struct.Struct(">H")


def pack(entries: Sequence[bytes]) -> bytes:
    """Return the entries, each behind its length."""
    length = _LENGTH.pack
    parts: list[bytes] = []
    for entry in entries:
        parts += (length(len(entry)), entry)
    return b"".join(parts)


def unpack(rows: Iterable[tuple[int, bytes]], first: int, count: int) -> list[bytes]:
    """Return up to `count` entries from number `first` on, out of (number of the first entry, packed entries) in order."""
    out: list[bytes] = []
    for number, packed in rows:
        at, offset = number, 0
        while offset < len(packed):
            (length,) = _LENGTH.unpack_from(packed, offset)
            if first <= at < first + count:
                out.append(packed[offset + 2 : offset + 2 + length])
            offset += 2 + length
            at += 1
    return out


def unpack_row(packed: bytes, count: int) -> list[bytes]:
    """Return the entries of one row, which has to hold so many and nothing else; else `ValueError`."""
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

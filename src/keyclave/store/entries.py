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


assert limits.ENTRY < 1 << 16  # noqa: S101 - the length of an entry fits its uint16

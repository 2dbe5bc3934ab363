"""Identifiers: a kind, an underscore, 26 letters of base32 (16 bytes, random or led by the time). Never reused.

Nothing is ever read out of an identifier: that those of keys begin with the time is for the store alone.
"""

from __future__ import annotations

import base64
from itertools import product

from keyclave.core.errors import Unknown

RAW = 16
AFTER_TIME = 10  # random bytes behind the time
_PAD = "======"
_PAIRS = ["".join(pair) for pair in product("abcdefghijklmnopqrstuvwxyz234567", repeat=2)]  # ten bits each
_SHIFTS = range(120, -1, -10)


def to_id(kind: str, raw: bytes) -> str:
    """Return the text form of 16 raw bytes, e.g. `key_…` (base32 of RFC 4648 section 6 in small letters, without padding)."""
    bits = int.from_bytes(raw, "big") << 2  # 26 letters carry 130 bits
    return kind + "_" + "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])


def by_time(at: int, rest: bytes) -> bytes:
    """Return raw bytes that begin with the millisecond of `at` (microseconds), followed by `AFTER_TIME` random ones.

    Things made one after the other get neighbouring ids, so that a store's index grows at one place instead of everywhere.
    """
    return (at // 1000).to_bytes(RAW - AFTER_TIME, "big") + rest


def from_id(kind: str, text: str) -> bytes:
    """Return the 16 raw bytes of an identifier; anything that is not one of this kind is `Unknown`."""
    prefix = kind + "_"
    if not text.startswith(prefix) or len(text) != len(prefix) + 26:
        raise Unknown("no such " + kind)
    try:
        raw = base64.b32decode(text[len(prefix) :].upper() + _PAD)
    except ValueError:
        raise Unknown("no such " + kind) from None
    if to_id(kind, raw) != text:  # the last letter carries two spare bits: only one spelling is an identifier
        raise Unknown("no such " + kind)
    return raw

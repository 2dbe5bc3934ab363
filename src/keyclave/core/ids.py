"""Identifiers: a kind, an underscore, 26 letters of base32 (16 bytes, random or led by the time). Never reused.

Nothing is ever read out of an identifier: that those of keys begin with the time is for the store alone.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from itertools import product

from keyclave.core.errors import Unknown

RAW = 16
AFTER_TIME = 17  # random bytes behind the time
_PAD = "======"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LETTERS = (_ALPHABET * 8).encode()  # of each byte, by its last five bits
_PAIRS = ["".join(pair) for pair in product(_ALPHABET, repeat=2)]  # ten bits each
_SHIFTS = range(120, -1, -10)


def to_id(kind: str, raw: bytes) -> str:
    """Return the text form of 16 raw bytes, e.g. `key_…` (base32 of RFC 4648 section 6 in small letters, without padding)."""
    bits = int.from_bytes(raw, "big") << 2  # 26 letters carry 130 bits
    return kind + "_" + "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])


def to_timed_id(kind: str, at: int, rest: bytes) -> str:
    """Return an identifier of the millisecond of `at` (microseconds), 48 bits of it, followed by 80 random ones.

    Things made one after the other get neighbouring ids, so that a store's index grows at one place instead of everywhere. Of
    each of the `AFTER_TIME` random bytes in `rest` five bits count, of the first one two and of the last one three: so each is a
    letter of its own, and most letters take no more than a translation.
    """
    time = at // 1000
    letters = rest.translate(_LETTERS).decode()
    return f"{kind}_{_front(time >> 3)}{_ALPHABET[(time & 7) << 2 | rest[0] & 3]}{letters[1:16]}{_ALPHABET[(rest[16] & 7) << 2]}"


@lru_cache(maxsize=4)
def _front(bits: int) -> str:
    return "".join(_ALPHABET[bits >> shift & 31] for shift in range(40, -1, -5))


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

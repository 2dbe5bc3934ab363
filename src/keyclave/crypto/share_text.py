"""The text of a share, as custodians write it down and type it in again (spec/shares.md, "A share as text").

Digits are made and read a few bits at a time, so that no long number with the share in it is left on the heap. The text itself
is an ordinary string: whoever holds it holds the share.
"""

from __future__ import annotations

import hashlib
import re

from keyclave.core.errors import Malformed
from keyclave.crypto.digest import same

PREFIX = "kcs1-"
SUM = 4

_GROUP = 5
_DIGIT_BITS = 5
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LOOKALIKE = str.maketrans({"O": "0", "I": "1", "L": "1"})
_IGNORED = re.compile("[\\s\u2010-\u2015\u2212-]")  # white space, and what a word processor makes of a dash
_LONGEST = 1024


def to_text(body: bytearray) -> str:
    """Return the text of a share's bytes, to which the checksum is added."""
    digits = []
    held = bits = 0
    for byte in (*body, *checksum(body)):
        held, bits = held << 8 | byte, bits + 8
        while bits >= _DIGIT_BITS:
            bits -= _DIGIT_BITS
            digits.append(_ALPHABET[held >> bits])
            held &= (1 << bits) - 1
    if bits:
        digits.append(_ALPHABET[held << (_DIGIT_BITS - bits)])
    return PREFIX + "-".join("".join(digits[i : i + _GROUP]) for i in range(0, len(digits), _GROUP))


def from_text(text: str) -> bytearray:
    """Return a share's bytes without the checksum, which held; the caller wipes them. Anything wrong is `Malformed`, and said."""
    if len(text) > _LONGEST:
        raise Malformed("a share is not that long", "give the text of one share")
    compact = _IGNORED.sub("", text).upper().translate(_LOOKALIKE)
    mark = PREFIX[:-1].upper()
    if not compact.startswith(mark):
        raise Malformed("this is not a share", f"a share begins with {PREFIX}")
    raw = _from_digits(compact[len(mark) :])
    body = raw[:-SUM]
    if len(raw) <= SUM or not same(checksum(body), bytes(raw[-SUM:])):
        raise _typing_error()
    raw[:] = bytes(len(raw))
    return body


def checksum(body: bytearray) -> bytes:
    """Return the four bytes that find a typing error. They are part of the text: no secret, and no protection against intent."""
    hashed = hashlib.sha256(b"keyclave/share/1")
    hashed.update(body)
    return hashed.digest()[:SUM]


def _from_digits(digits: str) -> bytearray:
    out = bytearray()
    held = bits = 0
    for digit in digits:
        value = _ALPHABET.find(digit)
        if value < 0:
            raise Malformed(f"the character {digit!r} does not occur in a share", "compare it with the paper, group by group")
        held, bits = held << _DIGIT_BITS | value, bits + _DIGIT_BITS
        if bits >= 8:
            bits -= 8
            out.append(held >> bits)
            held &= (1 << bits) - 1
    if held or bits >= _DIGIT_BITS:  # spare bits that are not zero, or a digit too many
        raise _typing_error()
    return out


def _typing_error() -> Malformed:
    return Malformed("this share has a typing error or is incomplete", "compare it with the paper, group by group")

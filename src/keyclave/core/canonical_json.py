"""RFC 8785 JSON of plain data, quickly: what is approved and signed is hashed in this form.

The reference library escapes text one character at a time: ten milliseconds for a large policy, several times for each approval,
on the thread that serves everybody. msgspec writes the same bytes for text, whole numbers, truth values and null under names in
ASCII (a property test holds the two together); the library does what is left: fractions, other names, and every refusal.
"""

from __future__ import annotations

from typing import Any

import msgspec
import rfc8785

from keyclave.core.errors import Malformed

_EXACT = 2**53 - 1  # the largest whole number that every JSON reader takes for itself
_encode = msgspec.json.Encoder(order="sorted").encode


def canonical_json(value: Any) -> bytes:
    """Return RFC 8785 JSON. Malformed for what has no canonical form (whole numbers from 2^53 on, halves of surrogates)."""
    try:
        if _simple(value):
            try:
                return _encode(value)
            except UnicodeEncodeError:
                pass  # the library says what is wrong
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise Malformed(
            "the request holds what canonical JSON cannot say", "use whole numbers below 2^53 and plain text"
        ) from None


def _simple(value: Any) -> bool:
    """Tell whether the quick way writes this as RFC 8785 does: names in ASCII sort alike in UTF-8 and UTF-16."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_EXACT <= value <= _EXACT)
    if kind is dict:
        return all(type(name) is str and name.isascii() and _simple(part) for name, part in value.items())
    return kind in (list, tuple) and all(map(_simple, value))

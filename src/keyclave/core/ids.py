"""Identifiers: a kind, an underscore, 26 letters of base32 (16 random bytes). Never reused, never meaningful."""

from __future__ import annotations

import base64

from keyclave.core.errors import Unknown

RAW = 16
_PAD = "======"


def to_id(kind: str, raw: bytes) -> str:
    """Return the text form of 16 raw bytes, e.g. `key_…`."""
    return kind + "_" + base64.b32encode(raw).decode().rstrip("=").lower()


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

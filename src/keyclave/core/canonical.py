"""One unambiguous encoding for everything that is authenticated: AAD, MAC input, key-derivation info.

`canonical(label, *fields)` is the label and each field behind its length (4 bytes, big-endian). No two lists of fields share an
encoding, which joining by a separator would allow.
"""

from __future__ import annotations

from collections.abc import Mapping

_LENGTH = 4


def canonical(label: str, *fields: bytes | str | int) -> bytes:
    """Encode `label` and `fields`. Text is UTF-8; whole numbers are 8 bytes big-endian, unsigned."""
    out = bytearray()
    for field in (label, *fields):
        if isinstance(field, str):
            raw = field.encode()
        elif isinstance(field, int):
            raw = field.to_bytes(8, "big")
        else:
            raw = field
        out += len(raw).to_bytes(_LENGTH, "big")
        out += raw
    return bytes(out)


def canonical_map(entries: Mapping[str, str]) -> bytes:
    """Encode a flat string map, sorted by the UTF-8 bytes of its names. The empty map is the empty string."""
    if not entries:
        return b""
    out = bytearray()
    for name, value in sorted((n.encode(), v.encode()) for n, v in entries.items()):
        out += len(name).to_bytes(_LENGTH, "big")
        out += name
        out += len(value).to_bytes(_LENGTH, "big")
        out += value
    return bytes(out)

"""One unambiguous encoding for everything that is derived from or authenticated (spec/local-envelope.md, section "Encoding").

It is the server's encoding, written again here because this package imports nothing of the server; the vectors hold both to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from keyclave_client.errors import Malformed

_LENGTH = 4


def canonical(label: str, *fields: bytes) -> bytes:
    """Return `label` and each field behind its length (4 bytes, big-endian): no two lists of fields share an encoding."""
    out = bytearray()
    for raw in (label.encode(), *fields):
        out += len(raw).to_bytes(_LENGTH, "big")
        out += raw
    return bytes(out)


def canonical_map(context: Mapping[str, str] | None) -> bytes:
    """Return the encoding of an encryption context: names sorted by their UTF-8 bytes, each name and value behind its length.

    None and the empty map are the empty string. Anything but text raises `Malformed`: a number that is encoded one way today and
    another way tomorrow would lose the data.
    """
    if not context:
        return b""
    try:
        pairs = sorted((name.encode(), value.encode()) for name, value in context.items())
    except (AttributeError, UnicodeEncodeError):
        raise Malformed("an encryption context maps text to text", "write numbers and dates as strings") from None
    out = bytearray()
    for name, value in pairs:
        out += len(name).to_bytes(_LENGTH, "big")
        out += name
        out += len(value).to_bytes(_LENGTH, "big")
        out += value
    return bytes(out)

"""JSON of strangers, read strictly: one object, no name twice, no numbers that JSON does not have, of bounded size."""

from __future__ import annotations

import json
from typing import Any


def read_object(raw: bytes, most: int) -> dict[str, Any] | None:
    """Return the object in `raw` (at most `most` bytes), or None where it is anything else.

    A name that is there twice makes it nothing: which of the two counts differs between readers, and attacks live on that.
    """
    if len(raw) > most:
        return None
    try:
        found = json.loads(raw, object_pairs_hook=_once, parse_constant=_never)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def repeats_a_name(raw: bytes | bytearray) -> bool:
    """Tell whether an object in this JSON has a name twice, or there is a number in it that not every reader takes."""
    try:
        json.loads(raw, object_pairs_hook=_once, parse_constant=_never)
    except (ValueError, RecursionError):
        return True
    return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _never(_text: str) -> None:
    raise ValueError

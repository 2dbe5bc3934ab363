"""How the fields that many requests share are read and written: base64 text in and out, contexts."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import itemgetter

import pybase64

from keyclave.core.errors import Malformed, TooLarge
from keyclave.operations.attempt import Attempt
from keyclave.operations.rights import choose

_LETTERS = string.ascii_letters + string.digits + "+/"
# how padded base64 may end: before "==" with a letter whose four spare bits are zero, before "=" with one whose two are
_ENDS = frozenset([f"{last}==" for last in "AQgw"] + [f"{any_}{last}=" for any_ in _LETTERS for last in "AEIMQUYcgkosw048"])


def from_base64(text: str, limit: int, what: str) -> bytes:
    """Decode standard base64 with padding, strictly; `limit` is in decoded bytes."""
    if len(text) > (limit + 2) // 3 * 4:
        raise _too_large(what, limit)
    try:
        raw = pybase64.b64decode(text, None, True)  # by position: twice as fast as by name
    except ValueError:
        raise _not_base64(what) from None
    if text[-1:] == "=" and text[-3:] not in _ENDS:
        raise _spare_bits(what)
    if len(raw) > limit:
        raise _too_large(what, limit)
    return raw


_END = itemgetter(slice(-3, None))


def all_from_base64(texts: Sequence[str], limit: int, what: str) -> list[bytes]:
    """Decode many, each as `from_base64` does; the first fault that is found is raised for all."""
    if max(map(len, texts), default=0) > (limit + 2) // 3 * 4:
        raise _too_large(what, limit)
    try:
        raws = list(map(pybase64.b64decode, texts, repeat(None), repeat(True)))
    except ValueError:
        raise _not_base64(what) from None
    if any(end[-1:] == "=" and end not in _ENDS for end in set(map(_END, texts))):
        raise _spare_bits(what)
    if max(map(len, raws), default=0) > limit:
        raise _too_large(what, limit)
    return raws


def _too_large(what: str, limit: int) -> TooLarge:
    return TooLarge(f"{what} is larger than {limit} bytes", "use a data key and encrypt where the data is")


def _not_base64(what: str) -> Malformed:
    return Malformed(f"{what} is not base64", "use the standard alphabet with padding and no line breaks")


def _spare_bits(what: str) -> Malformed:
    return Malformed(f"{what} is not base64", "the spare bits of its last letter are zero: bytes have one spelling")


def to_base64(raw: bytes | bytearray | memoryview) -> str:
    """Encode as standard base64 with padding."""
    return pybase64.b64encode_as_string(raw)


def all_to_base64(raws: Iterable[bytes]) -> Iterable[bytes]:
    """Encode many, each when it is asked for, as the ASCII that goes out."""
    return map(pybase64.b64encode, raws)


def admit_context(attempt: Attempt, context: dict[str, str]) -> bytes:
    """Check a context's form and the credential's constraints, record it, and return its canonical bytes."""
    decision = attempt.decision
    known = attempt.desk.contexts.of(attempt.caller.tenant, context) if context else None
    if decision is not None and decision.alternatives:
        choose(attempt, decision, context)
    if known is None:
        return b""
    attempt.note_context(known.recorded)
    return known.encoded

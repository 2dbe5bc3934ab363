"""The forms that many requests share: base64 text in and out, contexts, what a batch looks like."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Annotated

import msgspec
import pybase64
from msgspec import Meta

from keyclave.core import limits
from keyclave.core.errors import Malformed, TooLarge
from keyclave.operations.attempt import Attempt
from keyclave.operations.rights import choose

_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"

# what the document says of these is checked here in code, faster and with a better word
Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64", "pattern": _BASE64})]
Context = Annotated[
    dict[str, str],
    Meta(
        max_length=limits.CONTEXT_ENTRIES,
        description="the encryption context",
        extra_json_schema={
            "propertyNames": {"pattern": f"^[!-~]{{1,{limits.CONTEXT_NAME}}}$"},
            "additionalProperties": {"type": "string", "maxLength": limits.CONTEXT_VALUE, "pattern": limits.PRINTABLE},
        },
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$(?!\n)")]
# a key is asked for by id or name in one place of a path: a name has no slash, and never looks like an id
KeyName = Annotated[str, Meta(min_length=1, max_length=limits.NAME, pattern=r"^(?!key_)[A-Za-z0-9][A-Za-z0-9._:-]*$(?!\n)")]
Text = Annotated[str, Meta(min_length=1, max_length=limits.NAME, pattern=limits.PRINTABLE)]
TagValue = Annotated[str, Meta(max_length=256, pattern=limits.PRINTABLE)]
Reason = Annotated[str, Meta(max_length=limits.REASON, pattern=limits.PRINTABLE)]
Number = Annotated[int, Meta(ge=1, le=2**31 - 1)]


_LETTERS = string.ascii_letters + string.digits + "+/"
# how padded base64 may end: before "==" with a letter whose four spare bits are zero, before "=" with one whose two are
_ENDS = frozenset([f"{last}==" for last in "AQgw"] + [f"{any_}{last}=" for any_ in _LETTERS for last in "AEIMQUYcgkosw048"])


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A request body. Unknown fields are refused: a misspelt `context` must not become no context.

    Bodies and answers are trees of plain data, which no cycle can run through: the collector need not look at them.
    """


class Empty(Request, kw_only=True):
    """A body that says nothing."""


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """An answer; `event` is the id of its event in the log, for a receipt."""

    event: str = ""


class Problem(msgspec.Struct, gc=False):
    """What became of one item of a batch that failed."""

    code: str
    detail: str
    hint: str


class Failed(msgspec.Struct, gc=False):
    """The place of a failed item in the results."""

    error: Problem


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

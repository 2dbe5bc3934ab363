"""The forms that many requests share: base64 text in and out, contexts, what a batch looks like."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.core import limits

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

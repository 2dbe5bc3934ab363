"""How an answer is written: JSON, in one way for every protocol."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

encode_answer = msgspec.json.Encoder().encode


class AnswerForm:
    """How answers are written that differ in nothing but their event and one text, neither of which needs escaping."""

    __slots__ = ("_back", "_front", "_middle")

    def __init__(self, answer: msgspec.Struct, field: str) -> None:
        """`answer` is any of them; its `event` stands before `field`."""
        shown = encode_answer(msgspec.structs.replace(answer, event="@", **{field: "@"}))
        self._front, rest = shown.split(b'"event":"@"')  # in no other field's text, where quotes are escaped
        between, back = rest.split(b'"%b":"@"' % field.encode())
        self._front += b'"event":"'
        self._middle = b'"%b"%b":"' % (between, field.encode())
        self._back = b'"' + back

    def write(self, event: str, text: bytes) -> bytes:
        """Return the answer, byte for byte as `encode_answer` writes it."""
        return b"%b%b%b%b%b" % (self._front, event.encode(), self._middle, text, self._back)


def written(answer: msgspec.Struct, field: str, texts: Iterable[bytes]) -> msgspec.Raw:
    """Return a list of answers as it is written: all like `answer` but for one field, empty there. Its texts need no escaping.

    Making an object for each of a thousand, writing it and dropping it again costs more than encrypting them.
    """
    mark = b'"%b":"' % field.encode()  # in no other field's text, where quotes are escaped
    front, back = encode_answer(answer).split(mark + b'"')
    between = b'"' + back + b"," + front + mark
    return msgspec.Raw(b"[" + front + mark + between.join(texts) + b'"' + back + b"]")

"""How an answer is written: JSON, in one way for every protocol."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from keyclave.core.form import Form, text_mark

encode_answer = msgspec.json.Encoder().encode


class AnswerForm(Form):
    """How answers are written that differ in nothing but their event and a few texts, none of which needs escaping."""

    __slots__ = ()

    def __init__(self, answer: msgspec.Struct, *fields: str) -> None:
        """`answer` is any of them; its `event` stands before `fields`, and those in this order."""
        marks = {field: text_mark() for field in ("event", *fields)}
        super().__init__(encode_answer(msgspec.structs.replace(answer, **marks)), *marks.values())

    def write(self, event: str, *texts: bytes) -> bytes:
        """Return the answer, byte for byte as `encode_answer` writes it."""
        return self._template % (event.encode(), *texts)


def written(answer: msgspec.Struct, field: str, texts: Iterable[bytes]) -> msgspec.Raw:
    """Return a list of answers as it is written: all like `answer` but for one field, empty there. Its texts need no escaping.

    Making an object for each of a thousand, writing it and dropping it again costs more than encrypting them.
    """
    mark = b'"%b":"' % field.encode()  # in no other field's text, where quotes are escaped
    front, back = encode_answer(answer).split(mark + b'"')
    between = b'"' + back + b"," + front + mark
    return msgspec.Raw(b"[" + front + mark + between.join(texts) + b'"' + back + b"]")

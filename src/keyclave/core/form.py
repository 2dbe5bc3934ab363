"""JSON that comes again with other values in a few places: they are filled in, byte for byte as encoding it anew would."""

from __future__ import annotations

from uuid import uuid4

_NUMBER = 10**17


def text_mark() -> str:
    """Return a text that stands in no JSON of anybody's: a place to fill a text in that needs no escaping."""
    return uuid4().hex


def number_mark() -> int:
    """Return a number that nobody has named, of eighteen digits."""
    return _NUMBER + uuid4().int % (9 * _NUMBER)


class Form:
    """What is written, with places."""

    __slots__ = ("_template",)

    def __init__(self, written: bytes, *marks: str | int) -> None:
        """`marks` in the order in which they stand in `written`, each once."""
        pieces, rest = [], written
        for mark in marks:
            front, rest = rest.split(str(mark).encode())
            pieces += [front.replace(b"%", b"%%"), b"%d" if isinstance(mark, int) else b"%b"]
        self._template = b"".join(pieces) + rest.replace(b"%", b"%%")

    def fill(self, *values: bytes | int) -> bytes:
        """Return it with a value in each place."""
        return self._template % values

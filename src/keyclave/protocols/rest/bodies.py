"""The body of a request, read into the operation's form; a name that is there twice in one object is refused.

Of two `context` the decoder takes the last, and whoever looked at the request before us (a gateway, a filter, a log) perhaps the
first: what was authorized with a context must not be encrypted without one. To look at every name in Python would cost as much as
the rest of reading. So it is done only where it may be needed: each name and text begins and ends with a quotation mark, and may
hold further ones, so where a body has no more of them than what was read from it must have had, nothing was passed over. Nor
where all names are different, in whatever objects they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

from keyclave.core.errors import Malformed
from keyclave.core.strict_json import repeats_a_name
from keyclave.operations.operation import Operation

T = TypeVar("T")

_TEXTS = re.compile(rb'"((?:[^"\\]|\\.)*+)"(\s*:)?')  # each name and text, and whether a colon follows: then it is a name
_NAME, _TEXT = 2, 2  # quotation marks
_ENTRY = _NAME + _TEXT


class Bodies:
    """Reads the bodies of all operations."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._forms = {id(op): _Form(op.request) for op in operations if op.request is not None}

    def read(self, op: Operation, body: bytes | bytearray) -> Any:
        """Return the operation's request; a body that is none raises what the decoder raises, or `Malformed`."""
        form = self._forms[id(op)]
        request = form.decode(body)
        marks = len(body) - len(body.replace(b'"', b""))  # several times as fast as `count` where texts are long
        if marks == form.least or (form.marks is not None and form.marks.fit(request, marks)):
            return request
        if not _all_different(body) and repeats_a_name(body):
            raise _twice()
        return request


def read_alone(body: bytes, form: type[T]) -> T:
    """Return a request outside the table of operations, read as strictly: raises what the decoder raises, or `Malformed`."""
    try:
        request = msgspec.json.decode(body, type=form)
    except RecursionError:
        raise Malformed("the request is nested too deeply", "see /v1/openapi.json") from None
    if repeats_a_name(body):
        raise _twice()
    return request


def _twice() -> Malformed:
    return Malformed("a name is there twice in one object of the body", "send each name once")


class _Form:
    """How one operation's bodies are read; `marks` counts the quotation marks that a request must have had.

    `least` are those of one that says no more than it must, where that is the same for each.
    """

    __slots__ = ("decode", "least", "marks")

    def __init__(self, form: type) -> None:
        self.decode: Callable[[bytes | bytearray], Any] = msgspec.json.Decoder(form).decode
        self.marks = _counter(form)
        self.least = self.marks.required if isinstance(self.marks, _Marks) else None


class _Optional(NamedTuple):
    """A field that may be left out: how it is got, what it is then, its marks, and whether it holds entries, with marks each."""

    get: Callable[[Any], Any]
    default: Any
    marks: int
    entries: bool


class _Marks(NamedTuple):
    """The marks of a form's required fields together, and the fields that may be left out."""

    required: int
    optional: list[_Optional]

    def fit(self, request: Any, marks: int) -> bool:
        """Tell whether it must have come with so many, at most: a field that is as if left out may have been."""
        total = self.required
        for get, default, own, entries in self.optional:
            value = get(request)
            if entries and value:
                total += own + _ENTRY * len(value)
            elif not entries and value != default:
                total += own
        return marks == total


class _BatchMarks(NamedTuple):
    """Those of a batch, by those of its items."""

    item: _Marks

    def fit(self, batch: Any, marks: int) -> bool:
        """Count those of the items, field by field: a third of the time; not at all if they say no more than they must."""
        total = _NAME + self.item.required * len(batch.items)
        if marks == total:
            return True
        for get, default, own, entries in self.item.optional:
            values = list(map(get, batch.items))
            if entries:
                held = list(filter(None, values))
                total += own * len(held) + _ENTRY * sum(map(len, held))
            else:
                total += own * (len(values) - values.count(default))
        return marks == total


def _all_different(body: bytes | bytearray) -> bool:
    """Tell whether no name in a body that is JSON is there twice, in all its objects together, and none is spelled in escapes."""
    names = [text for text, colon in _TEXTS.findall(body) if colon]
    return len(set(names)) == len(names) and not any(b"\\" in name for name in names)


def _counter(form: type) -> _Marks | _BatchMarks | None:
    """Return what counts the marks of a request, or of a batch; None for forms with more in them than texts and contexts."""
    described = inspect.type_info(form)
    assert isinstance(described, inspect.StructType)  # noqa: S101
    marks = _marks(described)
    if marks is not None:
        return marks
    match [_plain(field.type) for field in described.fields]:
        case [inspect.ListType(item_type=inspect.StructType() as item)] if (of_items := _marks(item)) is not None:
            return _BatchMarks(of_items)
    return None


def _marks(form: inspect.StructType) -> _Marks | None:
    """Return how the marks of a form are counted, if each of its fields is known to have so and so many."""
    required, optional = 0, []
    for field in form.fields:
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        match _given(field.type, default):
            case inspect.StrType():
                marks, entries = _NAME + _TEXT, False
            case inspect.EnumType(cls=kind) if issubclass(kind, str):
                marks, entries = _NAME + _TEXT, False
            case inspect.IntType() | inspect.BoolType():
                marks, entries = _NAME, False
            case inspect.DictType(key_type=inspect.StrType(), value_type=inspect.StrType()):
                marks, entries = _NAME, True
            case _ if not field.required and default is None:  # whatever it holds comes on top: then they are looked at
                marks, entries = _NAME, False
            case _:
                return None
        if field.required and not entries:
            required += marks
        else:
            optional.append(_Optional(attrgetter(field.name), default, marks, entries))
    return _Marks(required, optional)


def _given(kind: inspect.Type, default: object) -> inspect.Type:
    """Return of what type a field is where it is not left out: `X | None` is X if None is what it is then."""
    kind = _plain(kind)
    if isinstance(kind, inspect.UnionType) and default is None:
        others = [_plain(each) for each in kind.types if not isinstance(each, inspect.NoneType)]
        return others[0] if len(others) == 1 else kind
    return kind


def _plain(kind: inspect.Type) -> inspect.Type:
    """Return a type without what our document says of it besides."""
    return _plain(kind.type) if isinstance(kind, inspect.Metadata) else kind

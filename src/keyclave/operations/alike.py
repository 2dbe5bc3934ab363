"""New keys that one caller asks for in the same words but for their names: what is the same for all is written once.

Their rows, events and answers come out as they would one by one; only places are filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from keyclave.audit.event import NewKeyEventForm
from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.core.form import Form, text_mark
from keyclave.keys.model import Key
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt_events import event_of
from keyclave.operations.key_view import view
from keyclave.operations.keyring import material_context
from keyclave.store.key_rows import NewKeyRows

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt

_SECONDS = len("2026-11-27T07:30:00")


class Alike:
    """What one such key was, for those after it."""

    __slots__ = ("_answer", "_context", "_dates", "_event", "_said", "_words", "detail", "rows")

    def __init__(self, attempt: Attempt, key: Key) -> None:
        """`key` is what `attempt` makes; its event is numbered already."""
        self._words = attrgetter(*(name for name in attempt.request.__struct_fields__ if name != "name"))
        self._said = self._words(attempt.request)
        self.detail = attempt.detail or {}
        self.rows = NewKeyRows(key)
        mark = text_mark()[: len(key.id)]
        self._context = Form(material_context(key.tenant, mark, 1, key.spec, key.purpose), mark)
        self._event = NewKeyEventForm(event_of(attempt, 0, attempt.outcome, None, 0))
        self._dates, self._answer = _answer_form(key)

    def fits(self, request: Any) -> bool:
        """Tell whether a request says the same."""
        return bool(self._words(request) == self._said)

    def context(self, key_id: str) -> bytes:
        """Return what the material of another one is sealed with, as `material_context`."""
        return self._context.fill(key_id.encode())

    def event(self, attempt: Attempt) -> bytes:
        """Return the event of another one."""
        return self._event.write(attempt.at, attempt.request.name, attempt.event, attempt.key_id)

    def answer(self, attempt: Attempt, kcv: str) -> bytes:
        """Return the answer about another one."""
        at, *dates = self._dates.of(attempt.at)
        name = attempt.request.name.encode()
        return self._answer.fill(attempt.event.encode(), attempt.key_id.encode(), name, at, kcv.encode(), *dates)


class Dates:
    """Dates that are so many whole seconds after another one, as `to_text`: written once for all of the same second."""

    __slots__ = ("_after", "_begun", "_second")

    def __init__(self, after: Sequence[int]) -> None:
        self._after = after
        self._second = -1
        self._begun: list[bytes] = []

    def of(self, at: int) -> list[bytes]:
        """Return those after `at`, in microseconds since the epoch."""
        second, micros = divmod(at, MICROSECONDS)
        if second != self._second:
            self._begun = [to_text((second + after) * MICROSECONDS)[:_SECONDS].encode() for after in self._after]
            self._second = second
        end = b".%06dZ" % micros
        return [begun + end for begun in self._begun]


def _answer_form(key: Key) -> tuple[Dates, Form]:
    """Return the form, and the dates in it: of the making, and those of the version."""
    shown, version = view(key), key.versions[0]
    shown.event, shown.id, shown.name, shown.created_at = marks = [text_mark() for _ in range(4)]
    (only,) = shown.versions
    only.kcv = text_mark()
    marks.append(only.kcv)
    ends = {"created_at": key.created_at, "activated_at": version.activated_at}
    ends |= {"protect_until": key.protect_until(version), "process_until": key.process_until(version)}
    after = [0]
    for name, at in ends.items():
        if at is not None:
            setattr(only, name, mark := text_mark())
            marks.append(mark)
            after.append((at - key.created_at) // MICROSECONDS)  # periods are days
    return Dates(after), Form(encode_answer(shown), *marks)

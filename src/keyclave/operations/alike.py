"""New keys that one caller asks for in the same words but for their names: what is the same for all is written once.

Their rows, events and answers come out as they would one by one; only places are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from keyclave.audit.event_forms import NewKeyEventForm
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

_BEGUN = len("2026-11-27T07:30:00.")


class Alike:
    """What one such key was, for those after it."""

    __slots__ = ("_answer", "_event", "_further", "_said", "_words", "context", "detail", "rows")

    def __init__(self, attempt: Attempt, key: Key) -> None:
        """`key` is what `attempt` makes; its event is numbered already."""
        self._words = attrgetter(*(name for name in attempt.request.__struct_fields__ if name != "name"))
        self._said = self._words(attempt.request)
        self.detail = attempt.detail or {}
        self.rows = NewKeyRows(key)
        mark = text_mark()[: len(key.id)]
        self.context = Form(material_context(key.tenant, mark, 1, key.spec, key.purpose), mark)
        self._event = NewKeyEventForm(event_of(attempt, 0, attempt.outcome, None, 0))
        self._answer, self._further = _answer_form(key)

    def fits(self, request: Any) -> bool:
        """Tell whether a request says the same."""
        return bool(self._words(request) == self._said)

    def event(self, attempt: Attempt) -> bytes:
        """Return the event of another one."""
        return self._event.write(attempt.at, attempt.request.name, attempt.event, attempt.key_id)

    def answer(self, attempt: Attempt, kcv: str) -> bytes:
        """Return the answer about another one."""
        form, end = self._answer.at(attempt.at)
        ends = (end,) * self._further
        return form.fill(attempt.event.encode(), attempt.key_id.encode(), attempt.request.name.encode(), end, kcv.encode(), *ends)


class DatedForm:
    """A form with dates, as `to_text`, that are so many whole seconds after another one.

    They are begun once for all that is of the same second: their microseconds are what is left to fill in.
    """

    __slots__ = ("_after", "_form", "_marks", "_second", "_written")

    def __init__(self, written: str, marks: Sequence[str], after: Mapping[str, int]) -> None:
        """`marks` in the order in which they stand in `written`; `after`: how much later each date is."""
        self._written = written
        self._marks = marks
        self._after = after
        self._second = -1
        self._form = Form(b"")

    def at(self, at: int) -> tuple[Form, bytes]:
        """Return the form of `at`, in microseconds since the epoch, and what each date in it ends with."""
        second, micros = divmod(at, MICROSECONDS)
        if second != self._second:
            written = self._written
            for mark, after in self._after.items():
                written = written.replace(mark, to_text((second + after) * MICROSECONDS)[:_BEGUN] + mark)
            self._form, self._second = Form(written.encode(), *self._marks), second
        return self._form, b"%06dZ" % micros


def _answer_form(key: Key) -> tuple[DatedForm, int]:
    """Return the form, with places for event, id, name, date of the making and check value, and how many dates come after."""
    shown, version = view(key), key.versions[0]
    shown.event, shown.id, shown.name, shown.created_at = marks = [text_mark() for _ in range(4)]
    (only,) = shown.versions
    only.kcv = text_mark()
    marks.append(only.kcv)
    after = {shown.created_at: 0}
    ends = {"created_at": key.created_at, "activated_at": version.activated_at}
    ends |= {"protect_until": key.protect_until(version), "process_until": key.process_until(version)}
    for name, at in ends.items():
        if at is not None:
            setattr(only, name, mark := text_mark())
            marks.append(mark)
            after[mark] = (at - key.created_at) // MICROSECONDS  # periods are days
    return DatedForm(encode_answer(shown).decode(), marks, after), len(after) - 1

"""New keys that one caller asks for in the same words but for their names: what is the same for all is written once.

Their rows, events and answers come out as they would one by one; only places are filled in.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from keyclave.audit.event import NewKeyEventForm
from keyclave.core.clock import to_text
from keyclave.core.form import Form, text_mark
from keyclave.keys.model import Key
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt_events import event_of
from keyclave.operations.key_view import view
from keyclave.operations.keyring import material_context
from keyclave.store.key_rows import NewKeyRows

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt


class Alike:
    """What one such key was, for those after it."""

    __slots__ = ("_answer", "_context", "_event", "_lasts", "_said", "_words", "detail", "rows")

    def __init__(self, attempt: Attempt, key: Key) -> None:
        """`key` is what `attempt` makes; its event is numbered already."""
        self._words = attrgetter(*(name for name in attempt.request.__struct_fields__ if name != "name"))
        self._said = self._words(attempt.request)
        self.detail = attempt.detail or {}
        self.rows = NewKeyRows(key)
        mark = text_mark()[: len(key.id)]
        self._context = Form(material_context(key.tenant, mark, 1, key.spec, key.purpose), mark)
        self._event = NewKeyEventForm(event_of(attempt, 0, attempt.outcome, None, 0))
        self._lasts, self._answer = _answer_form(key)

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
        at = to_text(attempt.at).encode()
        dates = [to_text(attempt.at + lasts).encode() if lasts else at for lasts in self._lasts]
        name = attempt.request.name.encode()
        return self._answer.fill(attempt.event.encode(), attempt.key_id.encode(), name, at, kcv.encode(), *dates)


def _answer_form(key: Key) -> tuple[list[int], Form]:
    """Return the form, and for each of the version's dates in it how long after the making it is, in microseconds."""
    shown, version = view(key), key.versions[0]
    shown.event, shown.id, shown.name, shown.created_at = marks = [text_mark() for _ in range(4)]
    (only,) = shown.versions
    only.kcv = text_mark()
    marks.append(only.kcv)
    ends = {"created_at": key.created_at, "activated_at": version.activated_at}
    ends |= {"protect_until": key.protect_until(version), "process_until": key.process_until(version)}
    lasts = []
    for name, at in ends.items():
        if at is not None:
            setattr(only, name, mark := text_mark())
            marks.append(mark)
            lasts.append(at - key.created_at)
    return lasts, Form(encode_answer(shown), *marks)

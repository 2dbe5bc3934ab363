"""Events that differ in little, written from the form of one of them."""

from __future__ import annotations

import msgspec

from keyclave.audit.event import Event, encode
from keyclave.core.form import Form, number_mark, text_mark


class EventForm(Form):
    """How events are written that differ in nothing but their time and id."""

    __slots__ = ()

    def __init__(self, event: Event) -> None:
        """`event` is any of them."""
        at, identity = number_mark(), text_mark()
        super().__init__(encode(msgspec.structs.replace(event, at=at, id=identity)), at, identity)

    def write(self, at: int, identity: str) -> bytes:
        """Return the event of that time and id, byte for byte as `encode` writes it."""
        return self._template % (at, identity.encode())


class NewKeyEventForm(Form):
    """How events are written that differ in their time and id, in a new key and its name."""

    __slots__ = ()

    def __init__(self, event: Event) -> None:
        """`event` is any of them; its detail has the name."""
        at, name, identity, key = number_mark(), text_mark(), text_mark(), text_mark()
        said = msgspec.structs.replace(event, at=at, detail={**(event.detail or {}), "name": name}, id=identity, key=key)
        super().__init__(encode(said), at, name, identity, key)

    def write(self, at: int, name: str, identity: str, key: str) -> bytes:
        """Return the event, byte for byte as `encode` writes it. The name needs no escaping."""
        return self._template % (at, name.encode(), identity.encode(), key.encode())

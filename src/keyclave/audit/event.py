"""One event: who did what, why, with which outcome. spec/events.md is the law; the encoding is RFC 8785 canonical JSON.

The fields are declared in the order of their names, absent ones are left out, numbers are whole and under 2^53, and the names
inside `detail` and `context` are ASCII and sorted: so msgspec's encoding is the canonical one (a property test compares it with
an independent RFC 8785 implementation).
"""

from __future__ import annotations

import msgspec

from keyclave.core.form import Form, number_mark, text_mark


class Event(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False):
    """A leaf of the log.

    `outcome` is "ok" or the code of the error. `context` maps each name of the encryption context to its recorded values: keyed
    hashes (`h:` and 22 characters of base64url), or the value itself (`p:`) for names that policy marks as plain.
    """

    actor: str
    approval: str = ""
    at: int  # microseconds since the epoch
    context: dict[str, list[str]] | None = None
    count: int = 1  # items of a batch
    credential: str = ""
    detail: dict[str, str | int] | None = None
    failed: int = 0  # items of a batch that failed
    grant: str = ""
    how: str = ""
    id: str
    key: str = ""
    op: str
    outcome: str
    part: int = 0  # an attempt with too many context values for one event leaves several: 1, 2, …
    policy: str = ""
    purpose: str = ""
    reason: str = ""
    role: str = ""
    source: str = ""
    stale: int = 0  # made while the database was away: milliseconds since the node last asked what others changed
    tenant: str = ""
    version: int = 0


encode = msgspec.json.Encoder().encode  # dictionaries come sorted: sorting again would cost a microsecond an event
decode = msgspec.json.Decoder(Event).decode


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


def event_id(node: str, number: int) -> str:
    """Return the id of the event that `node` numbered so."""
    return f"{node}-{number}"


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Return the node and the number in an event id, or None for anything else."""
    node, _, digits = text.rpartition("-")
    if not node or not digits.isascii() or not digits.isdecimal() or (digits != "0" and digits[0] == "0") or len(digits) > 18:
        return None
    return node, int(digits)

"""An attempt with more to record than one event holds: how it is shared out over several."""

from __future__ import annotations

EVENT_BYTES = 40_000  # of recorded context and detail in one event: well under the 65,535 bytes of an entry
REPEATED_BYTES = 1_000  # of detail: what is longer stands in the first of several events alone

Context = dict[str, list[str]]
Detail = dict[str, str | int]


def shared_out(context: Context, detail: Detail | None) -> list[Context]:
    """Share out recorded values over as many events as they need, names sorted; the first one has to hold the detail too."""
    parts: list[Context] = [{}]
    room = EVENT_BYTES - _size(detail)
    for name in sorted(context):
        for value in context[name]:
            room -= len(value.encode()) + len(name) + 8
            if room < 0:
                parts.append({})
                room = EVENT_BYTES - len(value.encode()) - len(name) - 8
            parts[-1].setdefault(name, []).append(value)
    return parts


def repeated(detail: Detail | None) -> Detail | None:
    """Return what the second and later events say of the detail: all of it, or nothing if it is long."""
    return detail if _size(detail) <= REPEATED_BYTES else None


def _size(detail: Detail | None) -> int:
    """Return how many bytes a detail takes in an event, or a few more."""
    return sum(len(name) + len(str(value).encode()) + 6 for name, value in (detail or {}).items())

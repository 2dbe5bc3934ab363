"""The ids of events: the node that made the event, and its number there."""

from __future__ import annotations


def event_id(node: str, number: int) -> str:
    """Return the id of the event that `node` numbered so."""
    return f"{node}-{number}"


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Return the node and the number in an event id, or None for anything else."""
    node, _, digits = text.rpartition("-")
    if not node or not digits.isascii() or not digits.isdecimal() or (digits != "0" and digits[0] == "0") or len(digits) > 18:
        return None
    return node, int(digits)

"""The entries as events: numbered without gaps by the node that wrote them, in the order of time, in canonical JSON.

The default check costs under a microsecond an event and looks at two fields where RFC 8785 puts them: names are sorted, so before
`"at"` come only `"actor"` and `"approval"`, and after the event's own `"id"` no nested value comes. A quote inside a JSON string
is always escaped, so neither name can hide in a text. `strict` parses every entry whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Sequence
from typing import Any

from keyclave_verify.reading import DEEPEST, check_depth, exact
from keyclave_verify.report import Fault

NUMBER = re.compile(b"0|[1-9][0-9]{0,17}")
_TEXTS = "actor approval credential grant how id key op outcome policy purpose reason role source tenant"
_NUMBERS = "at count failed part stale version"
FIELDS = {"context": dict, "detail": dict, **dict.fromkeys(_TEXTS.split(), str), **dict.fromkeys(_NUMBERS.split(), int)}
_MICROSECONDS = 1_000_000
_LATE = 600 * _MICROSECONDS  # an attempt is dated when it begins and logged when it ends: no attempt takes ten minutes


class EventOrder:
    """Follows the events from the first on. `latest` is the largest time seen, in microseconds since 1970."""

    def __init__(self, *, strict: bool) -> None:
        self.latest = 0
        self._strict = strict
        self._numbers: dict[bytes, int] = {}
        self._node = b""
        self._next = 0

    def check(self, entries: Sequence[bytes], first: int, wrong: Container[int] = frozenset()) -> list[Fault]:
        """Check the entries from index `first` on, which follow those checked before.

        What does not match its hash (`wrong`) is not what was logged, and a fault already. Of it only the number is followed: its
        time says nothing of the time of others, or one changed digit would put every later event behind it.
        """
        if not wrong:
            return self._follow(entries, first)
        faults: list[Fault] = []
        for index, entry in enumerate(entries, first):
            latest = self.latest
            found = self._follow([entry], index)
            if index in wrong:
                self.latest, found = latest, [fault for fault in found if fault.code == "id_order"]
            faults += found
        return faults

    def _follow(self, entries: Sequence[bytes], first: int) -> list[Fault]:
        faults: list[Fault] = []
        node, number, latest = self._node, self._next, self.latest
        for entry in entries:
            at = entry.find(b'"at":') + 5
            try:
                time = int(entry[at : entry.index(b",", at)])
            except ValueError:
                time = -1
            known = entry.startswith(b'"id":"%b-%d"' % (node, number), entry.rfind(b'"id":"'))
            if self._strict or not known or time < latest - _LATE or at < 5:
                self._node, self._next, self.latest = node, number, latest
                faults += self._look_closely(entry, first)
                node, number, latest = self._node, self._next, self.latest
            else:
                number += 1
                if time > latest:  # noqa: PLR1730 - a call of max would cost a tenth of the whole check
                    latest = time
            first += 1
        self._node, self._next, self.latest = node, number, latest
        return faults

    def _look_closely(self, entry: bytes, index: int) -> list[Fault]:
        """Parse one entry, say what is wrong with it, and go on from what it says."""
        try:
            event = parse_event(entry)
        except ValueError as error:
            self._next += 1
            return [Fault("events", "not_an_event", f"entry {index} is not an event in canonical JSON: {error}")]
        faults = []
        node, _, digits = event["id"].encode().rpartition(b"-")
        if not NUMBER.fullmatch(digits):
            self._next += 1
            return [Fault("events", "id_malformed", f"the id {event['id'][:64]!r} of entry {index} is not a node and a number")]
        self._numbers[self._node] = self._next
        expected = self._numbers.get(node)
        if expected is not None and int(digits) != expected:
            detail = f"entry {index} is numbered {int(digits)}, but the number after its node's last event is {expected}"
            faults.append(Fault("events", "id_order", detail))
        self._node, self._next = node, int(digits) + 1
        if event["at"] < self.latest - _LATE:
            behind = (self.latest - event["at"]) // _MICROSECONDS
            faults.append(Fault("events", "time_order", f"entry {index} is dated {behind:,} seconds before an earlier entry"))
        self.latest = max(self.latest, event["at"])
        return faults


def parse_event(entry: bytes) -> dict[str, Any]:
    """Return an event as a dictionary. ValueError unless it is RFC 8785 canonical JSON with an `id` and a time `at`, and each
    field that it has is of the type that spec/events.md gives it."""
    try:
        text = entry.decode()
        event = _DECODER.decode(text)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (at its byte {error.pos})") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(event, dict) or not isinstance(event.get("id"), str) or type(event.get("at")) is not int:
        raise ValueError("it has no id and time")
    if text.count("[") + text.count("{") > DEEPEST:  # only then can it be
        check_depth(event)
    written = _ASCII.encode(event) if text.isascii() else _ORDERED.encode(_sorted(event))
    if written != text:
        raise ValueError("it is written in another form than the canonical one")
    odd = [name for name, value in event.items() if name in FIELDS and type(value) is not FIELDS[name]]
    if odd:
        raise ValueError(f"its {odd[0]} is not what the field holds (spec/events.md)")
    return event


def _no_float(text: str) -> float:
    raise ValueError(f"{text[:24]} is not a whole number")


def _sorted(value: Any) -> Any:
    """Return the value with names in the order of RFC 8785 section 3.2.3: by UTF-16 code units, at every depth."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


_DECODER = json.JSONDecoder(parse_int=exact, parse_float=_no_float, parse_constant=_no_float)
_ASCII = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True
)  # code points, which for ASCII is the same order
_ORDERED = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

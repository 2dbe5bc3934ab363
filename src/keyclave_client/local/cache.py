"""Data keys kept for a while, within bounds, so that small messages do not each cost a call to the server.

Each data key protects at most so many messages and bytes, and is used for at most so long, counted from before the server was
asked. The age is also the bound on revocation: what the server would refuse now is refused here at the latest `max_age`
later. Keys are kept apart by encryption context; a cache serves one source, so no caller gets a key that another caller's
credential opened.

When a key is missing, one thread asks and the others wait for that answer, or get its error. Expired and surplus keys are
dropped at the next use of the cache, or by `clear`; dropping the last reference wipes (see `datakey`).
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from keyclave_client.errors import Malformed
from keyclave_client.forking import forget_in_children
from keyclave_client.local.datakey import DataKey, DataKeySource


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """For how long (seconds), how many messages and plaintext bytes a data key is used, and how many are kept each way."""

    max_age: float = 300.0
    max_messages: int = 1_000_000
    max_bytes: int = 1 << 36
    max_entries: int = 1024

    def __post_init__(self) -> None:
        if not (self.max_age > 0 and self.max_messages > 0 and self.max_bytes > 0 and self.max_entries >= 0):
            raise Malformed("the limits of a data-key cache are positive", "to keep no data keys, use NO_CACHE")


DEFAULT_CACHE = CacheLimits()
NO_CACHE = CacheLimits(max_entries=0)


def running_time() -> float:
    """Return seconds that pass even while the machine sleeps: a lid closed over the weekend must not prolong a key's age."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class DataKeyCache:
    """The data keys of one source, within `limits`."""

    def __init__(self, source: DataKeySource, limits: CacheLimits, clock: Callable[[], float] = running_time) -> None:
        self._source = source
        self._limits = limits
        reading = CacheLimits(limits.max_age, 1 << 62, 1 << 62, limits.max_entries)  # opening wears no key out
        self._protecting = _Shelf(limits, clock)
        self._reading = _Shelf(reading, clock)

    def fresh(self, encoded: bytes, context: Mapping[str, str], size: float) -> DataKey:
        """Return a data key to protect one message of `size` bytes in `context` (whose canonical encoding is `encoded`).

        A size beyond the limit, or unknown (infinite), gets a data key of its own that is not kept.
        """
        if size > self._limits.max_bytes or not self._limits.max_entries:
            return self._source.fresh(context)
        return self._protecting.get(encoded, size, lambda: self._source.fresh(context))

    def open(self, wrapped: bytes, encoded: bytes, context: Mapping[str, str]) -> DataKey:
        """Return the data key in `wrapped`, asking the source only when it was not opened in the same context a while ago."""
        if not self._limits.max_entries:
            return self._source.open(wrapped, context)
        return self._reading.get((wrapped, encoded), 0, lambda: self._source.open(wrapped, context))

    def clear(self) -> None:
        """Drop every data key now."""
        self._protecting.clear()
        self._reading.clear()


UNKNOWN_SIZE = math.inf


class _Entry:
    """A kept data key and what it has been used for."""

    __slots__ = ("born", "key", "messages", "size")

    def __init__(self, key: DataKey, born: float) -> None:
        self.key = key
        self.born = born
        self.messages = 0
        self.size = 0.0


class _Shelf:
    """Data keys by name, least recently used first."""

    def __init__(self, limits: CacheLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._next_look = math.inf  # when the oldest key is too old: until then none is
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._asking: dict[Hashable, Future[None]] = {}
        forget_in_children(self)

    def forget(self) -> None:
        """In a forked process: drop every key, whose limits the other one goes on counting, and wait for none of its threads."""
        self._lock = threading.Lock()
        self._entries, self._asking, self._next_look = OrderedDict(), {}, math.inf

    def get(self, name: Hashable, size: float, ask: Callable[[], DataKey]) -> DataKey:
        """Return the key of `name` and count one message of `size` bytes on it; `ask` for it if none is within the limits."""
        while True:
            with self._lock:
                if self._clock() >= self._next_look:
                    self._trim()
                entry = self._usable(name, size)
                if entry is not None:
                    return _count(entry, size)
                asking = self._asking.get(name)
                if asking is None:
                    mine: Future[None] = Future()
                    self._asking[name] = mine
            if asking is None:
                return self._ask(name, size, ask, mine)
            asking.result()  # raises what the asking thread met; otherwise look again, the key may already be worn out

    def _usable(self, name: Hashable, size: float) -> _Entry | None:
        entry = self._entries.get(name)
        if entry is None:
            return None
        limits = self._limits
        if (
            self._clock() - entry.born >= limits.max_age
            or entry.messages >= limits.max_messages
            or entry.size + size > limits.max_bytes
        ):
            del self._entries[name]
            return None
        self._entries.move_to_end(name)
        return entry

    def _ask(self, name: Hashable, size: float, ask: Callable[[], DataKey], mine: Future[None]) -> DataKey:
        born = self._clock()
        try:
            key = ask()
        except BaseException as error:
            with self._lock:
                self._answered(name, mine)
            # an interrupt belongs to this thread alone: the others look again, and one of them asks
            if isinstance(error, Exception):
                mine.set_exception(error)
            else:
                mine.set_result(None)
            raise
        with self._lock:
            if self._answered(name, mine):
                entry = self._entries[name] = _Entry(key, born)
                _count(entry, size)
                self._trim()
        mine.set_result(None)
        return key

    def _answered(self, name: Hashable, mine: Future[None]) -> bool:
        """End a question, and say whether it still counts: what was asked before a `clear` must not be kept after it."""
        if self._asking.get(name) is not mine:
            return False
        del self._asking[name]
        return True

    def _trim(self) -> None:
        """Drop what is over the number or the age: a key nobody uses any more must not wait for its own turn to be found old."""
        while len(self._entries) > self._limits.max_entries:
            self._entries.popitem(last=False)
        horizon = self._clock() - self._limits.max_age
        for name in [name for name, entry in self._entries.items() if entry.born <= horizon]:
            del self._entries[name]
        self._next_look = min((entry.born for entry in self._entries.values()), default=math.inf) + self._limits.max_age

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._asking.clear()


def _count(entry: _Entry, size: float) -> DataKey:
    entry.messages += 1
    entry.size += size
    return entry.key

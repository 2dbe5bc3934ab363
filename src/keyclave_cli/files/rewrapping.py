"""Moving wrapped data keys: read from the headers, rewrapped by the server a thousand at a time, put back in place.

Only wrapped keys travel, a few hundred bytes for a file of any size, and each header is changed by one write after
which either the old or the new wrapped key stands there; both open.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keyclave_cli.files.finished import Context
from keyclave_cli.files.plan import Item
from keyclave_cli.files.progress import Bars
from keyclave_cli.files.report import GONE
from keyclave_cli.files.running import Fate, Outcome
from keyclave_cli.problems import Problem, Stop, describe
from keyclave_client import Client, Encryptor, inspect_file
from keyclave_client.errors import KeyclaveError, Refused, Unknown
from keyclave_client.local import header as wire
from keyclave_client.local.datakey import DataKey
from keyclave_client.local.inspection import read_head
from keyclave_client.local.landing import open_source

BATCH = 1000  # items of one request
_BATCH_BYTES = 4 << 20  # of contexts and keys in one request: half of what the server takes


class Place(NamedTuple):
    """An object: where it is, its wrapped data key, and the key and version that wrap it."""

    number: int
    path: str
    wrapped: bytes
    key: str
    version: int


class Rewrapping:
    """Rewraps objects of any number of keys, bound to one context."""

    def __init__(self, client: Client, context: Context, to_key: str | None) -> None:
        self._client = client
        self._context = context
        self._to_key = to_key
        self._newest: dict[str, wire.WrappedBy] = {}

    def run(self, items: Sequence[Item], bars: Bars) -> list[Outcome]:
        """Return each item's outcome, in the items' order."""
        outcomes = [Outcome(item, Fate.NOT_TRIED) for item in items]
        by_key: dict[str, deque[Place]] = defaultdict(deque)
        for number, item in enumerate(items):
            try:
                place = read_place(number, item.source)
            except Exception as error:
                self._failed(outcomes, number, error, bars)
            else:
                by_key[place.key].append(place)
        for key, places in by_key.items():
            try:
                self._look_up(self._to_key or key)
                # where the newest version is not to be learnt, the first answer tells it, and what has it need not be touched
                size = self._batch_size(places) if self._target(key) else 1
                while places:
                    batch = self._take(places, size, outcomes, bars)
                    size = self._batch_size(places) if places else 1
                    if batch and self._move(key, batch, outcomes, bars):
                        return outcomes
            except Exception as error:
                self._failed(outcomes, places[0].number, error, bars)
                return outcomes
        return outcomes

    def _look_up(self, target: str) -> None:
        """Learn the newest version of a key, if this credential may read its description."""
        try:
            view = self._client.get_key(target)
        except (Refused, Unknown):
            return
        if view.primary is not None:
            self._newest[target] = wire.WrappedBy(view.id, view.primary)

    def _target(self, key: str) -> wire.WrappedBy | None:
        return self._newest.get(self._to_key or key)

    def _take(self, places: deque[Place], size: int, outcomes: list[Outcome], bars: Bars) -> list[Place]:
        """Take the next batch, setting aside what is at the newest version already."""
        batch: list[Place] = []
        while places and len(batch) < size:
            place = places.popleft()
            if (place.key, place.version) != self._target(place.key):
                batch.append(place)
                continue
            item = outcomes[place.number].item
            outcomes[place.number] = Outcome(item, Fate.ALREADY, f"{place.key} version {place.version}")
            bars.finish(item.size)
        return batch

    def _batch_size(self, places: Sequence[Place]) -> int:
        context = sum(len(name.encode()) + len(value.encode()) for name, value in self._context.items())
        each = 2 * (max(len(place.wrapped) for place in places) + 3 * context) + 256  # base64 and escapes at their worst
        return max(1, min(BATCH, _BATCH_BYTES // each))

    def _move(self, key: str, batch: Sequence[Place], outcomes: list[Outcome], bars: Bars) -> bool:
        """Rewrap one batch; return whether the run must stop."""
        asked = [{"ciphertext": place.wrapped, "context": self._context, "to_key": self._to_key} for place in batch]
        try:
            answers = self._client.batch("re_encrypt", key, asked)
        except KeyclaveError as error:
            return any([self._failed(outcomes, place.number, error, bars) for place in batch])
        stop = False
        for place, answer in zip(batch, answers, strict=True):
            try:
                outcomes[place.number] = self._put_back(outcomes[place.number].item, place, answer)
                bars.finish(outcomes[place.number].item.size)
            except Exception as error:
                stop |= self._failed(outcomes, place.number, error, bars)
        return stop

    def _put_back(self, item: Item, place: Place, answer: Any) -> Outcome:
        if isinstance(answer, KeyclaveError):
            raise answer
        now = wire.wrapped_by(answer.ciphertext)
        if now is not None:
            self._newest.setdefault(self._to_key or place.key, now)
            if now == (place.key, place.version):
                return Outcome(item, Fate.ALREADY, f"{place.key} version {place.version}")
        encryptor = Encryptor(_Answered({place.wrapped: answer.ciphertext}))
        seen = encryptor.rewrap_file(place.path, self._context, to_key=self._to_key)
        return Outcome(item, Fate.DONE, f"{place.key} version {place.version} to {seen.key} version {seen.version}")

    def _failed(self, outcomes: list[Outcome], number: int, error: Exception, bars: Bars) -> bool:
        problem: Problem | None = describe(error)
        if problem is None:
            raise error
        item = outcomes[number].item
        outcomes[number] = Outcome(item, Fate.FAILED, problem=problem)
        bars.finish(item.size)
        return problem.code in GONE


class _Answered:
    """A source of data keys that has only the answers of one batch: the file is changed by what the server said about it."""

    def __init__(self, answers: Mapping[bytes, bytes]) -> None:
        self._answers = answers

    def fresh(self, context: Mapping[str, str]) -> DataKey:
        raise Stop("rewrapping makes no data keys", "this is a mistake in the program; report it")

    def open(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        raise Stop("rewrapping opens no data keys", "this is a mistake in the program; report it")

    def rewrap(self, wrapped: bytes, context: Mapping[str, str], to_key: str | None) -> bytes:
        """Return the answer for this wrapped key; another one means that the file changed since it was read."""
        answer = self._answers.get(wrapped)
        if answer is None:
            raise Stop("the file changed while its key was rewrapped", "run the command again")
        return answer


def read_place(number: int, path: str) -> Place:
    """Read what an object's header says."""
    seen = inspect_file(path)
    if seen.key is None or seen.version is None:
        raise Stop(f"{path} names no key of Keyclave's", "only what Keyclave wrapped can be rewrapped")
    with open_source(path, follow_symlinks=False) as file:
        header = wire.parse(read_head(file.fileno()))
    return Place(number, path, header.wrapped, seen.key, seen.version)

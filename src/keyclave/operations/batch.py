"""Any use of a key, up to 1,000 items at once: one attempt, one commit, a result or an error for each item."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyclave.core.errors import KeyclaveError
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Failed, Problem
from keyclave.operations.keyring import LoadedKey

UseVerb = Callable[[Desk, Attempt, Any, Any], Any]
Whole = Callable[[Desk, Attempt, Any, Any], msgspec.Raw]  # of the items; raises before anything is answered
Results = Annotated[Any, Meta(extra_json_schema={"type": "array"})]  # a list, or one that is written already


class BatchAnswer(msgspec.Struct, kw_only=True, gc=False):
    """Results in the order of the items: each an answer, or `{"error": …}`."""

    results: Results
    event: str = ""


def many(verb: UseVerb, whole: Whole | None = None) -> Callable[[Desk, Attempt, LoadedKey | None, Any], BatchAnswer]:
    """Return `verb` for a batch. One bad item harms no other; a missing right is refused before, for the batch as a whole.

    `whole` does all items at once, or raises: then each is done by itself, to find out which ones cannot be done.
    """

    def run(desk: Desk, attempt: Attempt, key: LoadedKey | None, request: Any) -> BatchAnswer:
        attempt.count = len(request.items)
        if whole is not None and not _by_grant(attempt):
            try:
                return BatchAnswer(results=whole(desk, attempt, key, request.items))
            except KeyclaveError:
                attempt.context, attempt.several = None, False  # recorded anew, item by item
        items = Items(verb, desk, attempt, key)
        items.do(request.items)
        return items.answer()

    return run


def in_portions(verb: UseVerb) -> Callable[[Desk, Attempt, LoadedKey | None, Any], Generator[None, None, BatchAnswer]]:
    """Return slow `verb` for a batch, item by item: a thousand keys to make hold up nobody for longer than one."""

    def run(desk: Desk, attempt: Attempt, key: LoadedKey | None, request: Any) -> Generator[None, None, BatchAnswer]:
        attempt.count = len(request.items)
        items = Items(verb, desk, attempt, key)
        for item in request.items:
            items.do((item,))
            yield
        return items.answer()

    return run


def _by_grant(attempt: Attempt) -> bool:
    """Tell whether a grant may be what permits it: whose uses are counted for each item, and named in the event."""
    return attempt.decision is not None and any(right.grant for right in attempt.decision.alternatives)


class Items:
    """The items of a batch, done one by one, and what its event says of them all."""

    __slots__ = ("_attempt", "_codes", "_desk", "_key", "_results", "_used", "_verb", "_versions")

    def __init__(self, verb: UseVerb, desk: Desk, attempt: Attempt, key: LoadedKey | None) -> None:
        self._verb, self._desk, self._attempt, self._key = verb, desk, attempt, key
        self._results: list[Any] = []
        self._codes: dict[str, str | int] = {}
        self._versions: set[int] = set()
        self._used: dict[tuple[tuple[str, str | int], ...], None] = {}  # what verbs said of items, each once

    def do(self, items: Sequence[Any]) -> None:
        """Do some of them. One that fails leaves its code, and nothing of what it was tried with."""
        verb, desk, attempt, key = self._verb, self._desk, self._attempt, self._key
        results, versions = self._results, self._versions
        for item in items:
            try:
                results.append(verb(desk, attempt, key, item))
            except KeyclaveError as error:
                self._fail(error)
                continue
            versions.add(attempt.version)
            attempt.end_item()
            if attempt.detail is not None:
                self._used[tuple(attempt.detail.items())] = None
                attempt.detail = None

    def _fail(self, error: KeyclaveError) -> None:
        attempt = self._attempt
        self._codes[error.code] = int(self._codes.get(error.code, 0)) + 1
        self._results.append(Failed(Problem(error.code, error.detail, error.hint)))
        attempt.failed += 1
        attempt.detail = None
        attempt.end_item(failed=True)

    def answer(self) -> BatchAnswer:
        """Return the results, and have the event name all that was used: not the last key and version alone."""
        attempt = self._attempt
        detail = {**self._codes, **_columns(list(self._used))}
        attempt.version = max(self._versions, default=0)
        if len(self._versions) > 1:
            detail["versions"] = ",".join(map(str, sorted(self._versions)))
        attempt.detail = dict(sorted(detail.items())) if detail else None
        return BatchAnswer(results=self._results)


def _columns(rows: list[tuple[tuple[str, str | int], ...]]) -> dict[str, str | int]:
    """Return what was said of items, name by name: the values of one row as they are, of several joined in the same order."""
    if len(rows) < 2:
        return dict(rows[0]) if rows else {}
    return {column[0][0]: ",".join(str(value) for _, value in column) for column in zip(*rows, strict=True)}

"""Any use of a key, up to 1,000 items at once: one attempt, one commit, a result or an error for each item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyclave.core.errors import KeyclaveError
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Failed, Problem
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.sealing import Sealing

UseVerb = Callable[[Desk, Attempt, Any, Any, Sealing], Any]
Whole = Callable[[Desk, Attempt, Any, Any, Sealing], msgspec.Raw]  # of the items; raises before anything is answered
Results = Annotated[Any, Meta(extra_json_schema={"type": "array"})]  # a list, or one that is written already


class BatchAnswer(msgspec.Struct, kw_only=True, gc=False):
    """Results in the order of the items: each an answer, or `{"error": …}`."""

    results: Results
    event: str = ""


def single(verb: UseVerb) -> Callable[[Desk, Attempt, LoadedKey | None, Any], Any]:
    """Return `verb` for one request."""

    def run(desk: Desk, attempt: Attempt, key: LoadedKey | None, request: Any) -> Any:
        return verb(desk, attempt, key, request, Sealing(attempt, desk.messages))

    return run


def many(verb: UseVerb, whole: Whole | None = None) -> Callable[[Desk, Attempt, LoadedKey | None, Any], BatchAnswer]:
    """Return `verb` for a batch. One bad item harms no other; a missing right is refused before, for the batch as a whole.

    `whole` does all items at once, or raises: then each is done by itself, to find out which ones cannot be done.
    """

    def run(desk: Desk, attempt: Attempt, key: LoadedKey | None, request: Any) -> BatchAnswer:
        attempt.count = len(request.items)
        if whole is not None and not _by_grant(attempt):
            try:
                return BatchAnswer(results=whole(desk, attempt, key, request.items, Sealing(attempt, desk.messages)))
            except KeyclaveError:
                attempt.context, attempt.several = None, False  # recorded anew, item by item
        return _one_by_one(verb, desk, attempt, key, request.items)

    return run


def _by_grant(attempt: Attempt) -> bool:
    """Tell whether a grant may be what permits it: whose uses are counted for each item, and named in the event."""
    return attempt.decision is not None and any(right.grant for right in attempt.decision.alternatives)


def _one_by_one(verb: UseVerb, desk: Desk, attempt: Attempt, key: LoadedKey | None, items: Sequence[Any]) -> BatchAnswer:
    sealing = Sealing(attempt, desk.messages)
    results: list[Any] = []
    codes: dict[str, str | int] = {}
    for item in items:
        try:
            results.append(verb(desk, attempt, key, item, sealing))
            attempt.end_item()
        except KeyclaveError as error:
            codes[error.code] = int(codes.get(error.code, 0)) + 1
            results.append(Failed(Problem(error.code, error.detail, error.hint)))
            attempt.failed += 1
            attempt.end_item(failed=True)
    if codes:
        attempt.detail = dict(sorted(codes.items()))
    return BatchAnswer(results=results)

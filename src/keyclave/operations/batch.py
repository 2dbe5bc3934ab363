"""Any use of a key, up to 1,000 items at once: one attempt, one commit, a result or an error for each item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from keyclave.core.errors import KeyclaveError
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Failed, Problem
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.sealing import Sealing

UseVerb = Callable[[Desk, Attempt, Any, Any, Sealing], Any]


class BatchAnswer(msgspec.Struct, kw_only=True):
    """Results in the order of the items: each an answer, or `{"error": …}`."""

    results: list[Any]
    event: str = ""


def single(verb: UseVerb) -> Callable[[Desk, Attempt, LoadedKey | None, Any], Any]:
    """Return `verb` for one request."""

    def run(desk: Desk, attempt: Attempt, key: LoadedKey | None, request: Any) -> Any:
        return verb(desk, attempt, key, request, Sealing(attempt, batch=False))

    return run


def many(verb: UseVerb) -> Callable[[Desk, Attempt, LoadedKey | None, Any], BatchAnswer]:
    """Return `verb` for a batch. One bad item harms no other; a missing right is refused before, for the batch as a whole."""

    def run(desk: Desk, attempt: Attempt, key: LoadedKey | None, request: Any) -> BatchAnswer:
        sealing = Sealing(attempt, batch=True)
        results: list[Any] = []
        codes: dict[str, str | int] = {}
        for item in request.items:
            try:
                results.append(verb(desk, attempt, key, item, sealing))
                attempt.end_item()
            except KeyclaveError as error:
                codes[error.code] = int(codes.get(error.code, 0)) + 1
                results.append(Failed(Problem(error.code, error.detail, error.hint)))
                attempt.failed += 1
                attempt.end_item(failed=True)
        attempt.count = len(request.items)
        if codes:
            attempt.detail = dict(sorted(codes.items()))
        return BatchAnswer(results=results)

    return run

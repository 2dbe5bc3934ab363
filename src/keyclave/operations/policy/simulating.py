"""policy-simulate: the calls of the last days, judged again under a proposed bundle: which of them would come out otherwise.

An event says who did what, on which key, from where, for which purpose, and how they had proved themselves; it does not say how
sure that was, or how fresh. Where a policy looks at what the record does not hold, every value that fits what happened is tried,
and the answer says "perhaps" where they disagree. Roles and keys are taken as they are now; who held a share, and what
was done on the same thing before, as they were then.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from keyclave.audit.event import Event, decode
from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.policy.forms import BundleRequest, bundle_of
from keyclave.operations.policy.replaying import Replay

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk
    from keyclave.operations.log import Log

MOST_EVENTS = 1_000_000  # of one simulation, the newest
_CHUNK = 2_000
_GROUPS = 500  # that are shown
Group = tuple[str, str, str, str, tuple[str, ...]]
Groups = dict[Group, list[int]]
"""Effect, actor, operation, key and deciding policies, to calls, first and last time."""
_DAY = 24 * 3600 * MICROSECONDS


class SimulateRequest(BundleRequest, kw_only=True):
    """Replay the last `days`."""

    days: Annotated[int, Meta(ge=1, le=366)] = 30


class CallGroup(msgspec.Struct, kw_only=True):
    """Calls alike. `effect`: "refused" (went, and would not), "perhaps-refused", "allowed" (was refused, and would go),
    "perhaps-allowed". `calls` counts the items of batches."""

    effect: str
    actor: str
    operation: str
    key: str
    policies: list[str]
    calls: int
    first: str
    last: str


class Unjudged(msgspec.Struct, kw_only=True):
    """Calls of the tenant that could not be judged, and why."""

    operation: str
    why: str
    calls: int


class SimulateAnswer(Answer, kw_only=True, omit_defaults=False):
    """`events` were read, `judged` of them judged; `complete`: every event of these days is among them. `groups`: the most
    frequent first; `more` groups are not shown. `unjudged`: calls of which nothing can be said, the most frequent first."""

    since: str
    events: int
    judged: int
    complete: bool
    refused: int
    allowed: int
    perhaps: int
    groups: list[CallGroup]
    more: int
    unjudged: list[Unjudged]


def simulate(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: SimulateRequest) -> SimulateAnswer:
    """Replay the log."""
    revisions = desk.access.revisions
    proposed = revisions.compiler.compile(bundle_of(request.files))
    since = attempt.at - request.days * _DAY
    end = desk.log.placed()
    begin = first_since(desk.log, since, end)
    complete = end - begin <= MOST_EVENTS
    begin = max(begin, end - MOST_EVENTS)
    replay = Replay(desk, attempt, revisions.of(attempt.caller.tenant), proposed)
    groups: Groups = {}
    judged = 0
    unjudged = Counter[tuple[str, str]]()
    for at in range(begin, end, _CHUNK):
        for entry in desk.log.entries(at, min(_CHUNK, end - at)):
            event = decode(entry)
            found = replay.judge(event)
            if isinstance(found, str):
                unjudged[event.op, found] += event.count if found else 0
                continue
            judged += 1
            if found.effect:
                _count(groups, (found.effect, event.actor, event.op, found.key, found.policies), event)
    attempt.count = max(1, judged)
    attempt.detail = {"days": request.days, "proposed": proposed.digest.hex()}
    answer = _answer(groups, to_text(since), end - begin, judged, complete=complete)
    left = sorted(((number, *what) for what, number in unjudged.items() if number), key=lambda one: (-one[0], *one[1:]))
    answer.unjudged = [Unjudged(operation=operation, why=why, calls=number) for number, operation, why in left]
    return answer


def first_since(log: Log, since: int, end: int) -> int:
    """Return the index of the first event at or after a time, in microseconds, of those before `end`.

    The log is in the order of time, near enough.
    """
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        if decode(log.entries(middle, 1)[0]).at < since:
            low = middle + 1
        else:
            high = middle
    return low


def _count(
    groups: dict[tuple[str, str, str, str, tuple[str, ...]], list[int]],
    key: tuple[str, str, str, str, tuple[str, ...]],
    event: Event,
) -> None:
    group = groups.setdefault(key, [0, event.at, event.at])
    group[0] += event.count
    group[1], group[2] = min(group[1], event.at), max(group[2], event.at)


def _answer(groups: Groups, since: str, events: int, judged: int, *, complete: bool) -> SimulateAnswer:
    ordered = sorted(groups.items(), key=lambda item: (-item[1][0], item[0]))
    totals = Counter[str]()
    for (effect, *_), counts in ordered:
        totals["perhaps" if effect.startswith("perhaps") else effect] += counts[0]
    shown = [
        CallGroup(
            effect=effect, actor=actor, operation=operation, key=key, policies=list(policies), calls=counts[0],
            first=to_text(counts[1]), last=to_text(counts[2]),
        )
        for (effect, actor, operation, key, policies), counts in ordered[:_GROUPS]
    ]  # fmt: skip
    return SimulateAnswer(
        since=since,
        events=events,
        judged=judged,
        complete=complete,
        refused=totals["refused"],
        allowed=totals["allowed"],
        perhaps=totals["perhaps"],
        groups=shown,
        more=len(ordered) - len(shown),
        unjudged=[],
    )

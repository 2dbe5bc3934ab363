"""What an operation is, as data: the row from which routes, OpenAPI, documents and duties are printed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyclave.identity.peer import Plane
from keyclave.policy.classes import Class

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk
    from keyclave.operations.keyring import LoadedKey

Run = Callable[["Desk", "Attempt", Any, Any], Any]
Later = Callable[["Desk", "Attempt", Any, Any], Callable[[str], bytes]]
Portioned = Callable[["Desk", "Attempt", Any, Any], Generator[None, None, Any]]
Slow = Callable[["LoadedKey | None", Any], bool]


@dataclass(frozen=True)
class Operation:
    """One verb. `run` gets (desk, attempt, key, request) and returns the answer; where `changes`, it returns the change:
    a function of the transaction that returns the answer. `slow` says which requests go to a worker thread. A path names at most
    one thing, in braces: it becomes `ref`. `plane` is the listener that serves it. `self_service` operations concern
    the caller alone and need no permit. `acts_as` names the action that policy judges, where the request decides which it is.
    `classed` says what it is sensitive for: the standard policy has such an operation wait for others, from its first day.
    `portions` does what `run` does, if it is slow, in steps between which others have their turn.
    `later` does what `run` does, but returns what writes the answer once its event is kept, given its id, on the loop's thread.
    `makes`: what it is about does not exist before, and policy sees nothing of its request.
    `while_away`: a node may do it while the database is away, with keys that allow it."""

    name: str
    method: str
    path: str
    request: type | None
    answer: type
    summary: str
    run: Run
    on_key: bool = False
    changes: bool = False
    needs_root: bool = True
    batch: bool = False
    status: int = 200
    slow: Slow | None = None
    query: type | None = None
    plane: Plane = Plane.CONTROL
    self_service: bool = False
    acts_as: Callable[[Any], str] | None = None
    classed: Class | None = None
    while_away: bool = False
    portions: Portioned | None = None
    later: Later | None = None
    makes: bool = False


def always(_key: LoadedKey | None, _request: Any) -> bool:
    """Every request is slow."""
    return True

"""spool-place: what was recorded in a spool while the database was away is in the journal; an event of its own says so."""

from __future__ import annotations

import threading

from keyclave.core.errors import Unavailable
from keyclave.identity.caller import Caller, Credential
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk

_NODE = Credential(
    id="", tenant="", principal="node", role=Role.APPLICATION, scope=None, created_at=0, created_by="", expires_at=0
)  # fmt: skip


def record_placing(desk: Desk, journal: str, events: int, new: int, ending: str, seconds: float) -> None:
    """From another thread: record that a spool was placed, `new` of its `events` just now, and what state its end was in.

    Returns when the event is durable; `Unavailable` if that takes longer than `seconds`, or fails: then the spool is kept, and
    placed again.
    """
    kept = threading.Event()

    def told(attempt: Attempt) -> None:
        if attempt.event:
            kept.set()

    def enqueue() -> None:
        attempt = Attempt(desk, "spool-place", Caller(_NODE), Peer(""), told)
        attempt.detail = {"events": events, "journal": journal, "new": new, "spool": ending}
        desk.enqueue(attempt)

    desk.on_loop(enqueue)
    if not kept.wait(seconds):
        raise Unavailable("that a spool was placed could not be recorded", "it is tried again")

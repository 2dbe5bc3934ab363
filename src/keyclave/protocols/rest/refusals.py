"""Failed authentication and shares that came too fast, counted: each second one event for each address that failed.

One event for every wrong token or share would let anybody on the network write the log full.
"""

from __future__ import annotations

from keyclave.identity.caller import Caller, Credential
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk

_ADDRESSES = 256  # told apart between two events; the rest are counted together

_NOBODY = Credential(
    id="", tenant="", principal="nobody", role=Role.APPLICATION, scope=None, created_at=0, created_by="", expires_at=0
)


class Refusals:
    """Counts, and tells."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._counts: dict[tuple[str, str], int] = {}

    def note(self, source: str, operation: str) -> None:
        """Count a failed attempt from an address."""
        asked = (source, operation)
        if asked not in self._counts and len(self._counts) >= _ADDRESSES:
            asked = ("others", operation)
        self._counts[asked] = self._counts.get(asked, 0) + 1

    def tell(self) -> None:
        """Leave the events."""
        counts, self._counts = self._counts, {}
        for (source, operation), count in counts.items():
            attempt = Attempt(self._desk, operation, Caller(_NOBODY), Peer(source), lambda _attempt: None)
            attempt.count = attempt.failed = count
            attempt.outcome = "unauthenticated" if operation == "authenticate" else "refused"
            self._desk.enqueue(attempt)

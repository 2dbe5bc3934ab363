"""Failed authentication, counted: each second one event for each address that failed, however often it did.

One event for every wrong token would let anybody on the network write the log full.
"""

from __future__ import annotations

from keyclave.identity.caller import Caller, Credential
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
        self._counts: dict[str, int] = {}

    def note(self, source: str) -> None:
        """Count a failed authentication from an address."""
        if source not in self._counts and len(self._counts) >= _ADDRESSES:
            source = "others"
        self._counts[source] = self._counts.get(source, 0) + 1

    def tell(self) -> None:
        """Leave the events."""
        counts, self._counts = self._counts, {}
        for source, count in counts.items():
            attempt = Attempt(self._desk, "authenticate", Caller(_NOBODY), source, lambda _attempt: None)
            attempt.count = attempt.failed = count
            attempt.outcome = "unauthenticated"
            self._desk.enqueue(attempt)

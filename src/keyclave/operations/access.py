"""The one place that asks policy, for every operation of every protocol: duty, key, standing, network, purpose.

A decision is remembered with the caller it was made for, until the caller or the policy changes; what can change between two
requests of one caller (network, purpose, age of the proof of presence) is part of what it is remembered under.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.core.errors import Refused
from keyclave.identity.peer import Plane
from keyclave.operations.keyring import LoadedKey, unknown_key
from keyclave.operations.operation import Operation
from keyclave.policy.decision import Decision
from keyclave.policy.duties import check_duty, reaches

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt

_ALLOWED = Decision(allowed=True)


class Access:
    """Decides."""

    def check_duty(self, attempt: Attempt, op: Operation) -> None:
        """Refuse what no policy can permit: a wrong listener, a duty of another role. Knows nothing of the key yet."""
        plane = attempt.peer.plane
        if plane is not Plane.BOTH and op.plane is not Plane.BOTH and plane is not op.plane:
            raise Refused(f"{op.name} is not served on this listener", f"use the {op.plane.value} listener")
        check_duty(attempt.caller, op.name)

    def decide(self, attempt: Attempt, op: Operation, key: LoadedKey | None) -> Decision:
        """Return what policy says of `op` on `key`; a key out of reach looks like one that does not exist."""
        if key is not None and not reaches(attempt.caller, op.name, key.key.id, key.key.name):
            raise unknown_key()
        return _ALLOWED

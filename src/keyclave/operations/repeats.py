"""What comes again: one caller, over one connection, using the same key once more, or making one key after the other.

What such a request is admitted by was worked out for the one before it, from things that are replaced whole when they change:
the caller (dropped on revocation and at every other change of a right), the policy's revision, the loaded key (dropped at every
change of it, and by the seal). While all of them are still the ones in force, asking again would give the same answer. Whatever
looks at more than those (a person's proof of presence, a declared purpose, an approval, grants, which end or are counted) is
never remembered; limits and the key version's state, period and number of uses are asked for each request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyclave.audit.event_forms import EventForm
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Plane
from keyclave.operations.alike import Alike
from keyclave.operations.attempt import Attempt
from keyclave.operations.attempt_events import event_of
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.operation import Operation, always
from keyclave.operations.revisions import POLICY
from keyclave.policy.decision import Decision
from keyclave.policy.engine import Compiled

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


class Repeat:
    """What a request was admitted by."""

    __slots__ = (
        "_form", "_key", "_key_id", "_shown", "alike", "caller", "decision", "desk", "kept_as", "op", "ref", "revision", "tenant",
    )  # fmt: skip

    def __init__(self, attempt: Attempt, op: Operation, key: LoadedKey | None, revision: Compiled, decision: Decision) -> None:
        self.desk = attempt.desk
        self.op = op
        self.ref = attempt.ref
        self.caller: Caller = attempt.caller
        self.tenant = attempt.caller.tenant
        # made anew each time the key is loaded; what is unwrapped is not held on to for a connection's sake
        self._key = None if key is None else key.key
        self._key_id = "" if key is None else key.key.id
        self.kept_as = attempt.kept_as
        self.revision = revision
        self.decision = decision
        self._shown: tuple[object, tuple[int, int]] | None = None  # recorded context, version and count of the last event
        self._form: EventForm | None = None  # how events with these are written, once there was a second one
        self.alike: Alike | None = None  # what the last new key was

    def holds(self, now: int) -> bool:
        """Tell whether caller and policy are those in force, no change of them or the key waits, and the server is open."""
        desk, caller = self.desk, self.caller
        pending = desk.pending
        if pending and (caller.id in pending or caller.principal in pending or POLICY in pending or self._key_id in pending):
            return False
        if self._key is None and desk.vault.sealed:
            return False
        return caller.live and now < caller.expires_at and desk.access.revisions.held(self.tenant) is self.revision

    def key(self) -> LoadedKey | None:
        """Return the key as it is held, if it is still the one that was judged."""
        key = self.desk.keyring.held(self.tenant, self.ref)
        return key if key is not None and key.key is self._key else None

    def admit(self, attempt: Attempt) -> None:
        """Let the next one pass as the first did."""
        attempt.action, attempt.decision = self.op.name, self.decision
        attempt.key_id, attempt.repeat = self._key_id, self
        if self.kept_as:
            attempt.kept_as = self.kept_as

    def alike_to(self, request: Any) -> Alike | None:
        """Return what is known of the last new key, if another one is asked for in the same words."""
        return self.alike if self.alike is not None and self.alike.fits(request) else None

    def form_of(self, attempt: Attempt) -> EventForm | None:
        """Return how the event of a use that was not refused is written, if it is the last one but for time and number."""
        if attempt.grant or attempt.decision is not self.decision:  # of another key that it used besides
            return None
        shown = self._shown
        if shown is None or attempt.context is not shown[0] or (attempt.version, attempt.count) != shown[1]:
            self._shown, self._form = (attempt.context, (attempt.version, attempt.count)), None
            return None
        if attempt.outcome != "ok" or attempt.detail is not None or attempt.several or attempt.reason:
            return None
        if self._form is None:
            self._form = EventForm(event_of(attempt, 0, "ok", attempt.context, 0))
        return self._form


def remember(attempt: Attempt) -> Repeat | None:
    """Return what a request that went well was admitted by, if the next one with the same head can go by it too."""
    desk, op, caller, decision = attempt.desk, attempt.row, attempt.caller, attempt.decision
    if op is None or decision is None or attempt.error is not None or not _repeatable(desk, op):
        return None
    standing = caller.standing
    if caller.digest is None or standing.thumbprint or standing.reach is not None:
        return None
    if standing.person and (not op.makes or caller.id.startswith("ses_") or standing.stepped_up_at):
        return None  # how long ago they were there counts
    if attempt.purpose or attempt.approval or decision.approval is not None:
        return None
    if any(right.grant or right.until for right in decision.alternatives):
        return None
    revision = desk.access.revisions.held(caller.tenant)
    if revision is None or revision is not attempt.revision:
        return None
    key = desk.keyring.held(caller.tenant, attempt.ref) if op.on_key else None
    if op.on_key and key is None:
        return None
    return Repeat(attempt, op, key, revision, decision)


def _repeatable(desk: Desk, op: Operation) -> bool:
    """Tell whether it makes a key, or is a use of one, and policy sees nothing of the request but an encryption context."""
    if op.makes:
        return op.slow is not always
    if not op.on_key or op.plane is not Plane.DATA or op.changes or op.slow is not None or op.acts_as is not None:
        return False
    return not op.while_away or desk.stale is None

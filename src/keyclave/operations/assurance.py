"""What is asked of a person before policy is: roles that go together, a credential sure enough, a proof that is young enough."""

from __future__ import annotations

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import AssuranceRequired, SelfConflict, StepUpRequired
from keyclave.operations.asking import Asking
from keyclave.policy.engine import Compiled

_ADVICE = {
    2: "log in with a passkey: `keyclave login`",
    3: "log in with a passkey that stays on one device, such as a security key: `keyclave login`; one that is synced proves less",
}


def check_roles_apart(attempt: Asking, revision: Compiled, *, own: bool = False, also: str = "") -> None:
    """Refuse a person whose roles exclude each other, or who holds a share that a rule keeps apart from this.

    Roles that do not go together are refused when they are given; who holds them all the same, for the rule came later, does
    nothing by any of them until one is taken away. `also`: a second name under which rules know the act.
    """
    roles = attempt.caller.standing.roles
    barred = revision.barring(attempt.action, roles, own=own) or (revision.barring(also, roles, own=own) if also else "")
    if barred:
        raise SelfConflict(barred, "another person does it; a custodian takes one of the roles away, or names another holder")


def check_assurance(attempt: Asking, revision: Compiled) -> None:
    """Refuse somebody of whom one is not sure enough, or whose last proof of presence is too old."""
    rules, standing = revision.rules, attempt.caller.standing
    needed = rules.assurance.of(attempt.caller.role)
    approval = rules.approval(attempt.action)
    if approval is not None:
        needed = max(needed, approval.assurance)
    if standing.aal < needed:
        raise AssuranceRequired(
            f"{attempt.action} asks for assurance level {needed}, and this credential gives {standing.aal}", _ADVICE[needed]
        )
    seconds = rules.fresh_seconds(attempt.action)
    if seconds and attempt.at - standing.stepped_up_at > seconds * MICROSECONDS:
        raise StepUpRequired(
            f"{attempt.action} asks for a proof of presence no older than {seconds // 60} minutes",
            "confirm with the passkey again: `keyclave login --again`, or on the page where it is asked",
        )

"""The one place that asks policy, for every operation of every protocol: listener, duty, assurance, then Cedar on the key.

A decision is remembered with the caller it was made for, until the caller or the policy changes; what can change between two
requests of one caller (network, purpose, age of the proof of presence) is part of what it is remembered under.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.core.errors import Malformed, Refused
from keyclave.identity.elevation import BREAK_GLASS
from keyclave.identity.grants import PURPOSES
from keyclave.identity.peer import Plane
from keyclave.identity.roles import Role
from keyclave.keys.model import Key
from keyclave.operations.asking import Asking, is_fresh, networks_of, nothing, question_of
from keyclave.operations.assurance import check_assurance, check_roles_apart
from keyclave.operations.keyring import LoadedKey, unknown_key
from keyclave.operations.operation import Operation
from keyclave.operations.revisions import Revisions
from keyclave.operations.rights import alternatives, choose, granted_to
from keyclave.policy.cedar import BUILT_IN
from keyclave.policy.decision import Decision
from keyclave.policy.duties import check_duty
from keyclave.policy.engine import Compiled, Question, Verdict

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt

_REMEMBERED = 4096  # decisions of one caller


class Access:
    """Decides."""

    def __init__(self, revisions: Revisions) -> None:
        self.revisions = revisions
        self._kinds = revisions.compiler.kinds

    def check_duty(self, attempt: Attempt, op: Operation) -> None:
        """Refuse what no policy can permit: a wrong listener, a duty of another role, a person one is not sure enough of.

        It comes before any key is looked for, so that it tells nothing of one.
        """
        plane = attempt.peer.plane
        if plane is not Plane.BOTH and op.plane is not Plane.BOTH and plane is not op.plane:
            raise Refused(f"{op.name} is not served on this listener", f"use the {op.plane.value} listener")
        if attempt.purpose and attempt.purpose not in PURPOSES:
            raise Malformed("the header keyclave-purpose names no purpose of use", f"known: {', '.join(PURPOSES)}")
        if attempt.caller.standing.reach is not None:
            attempt.purpose = BREAK_GLASS  # whatever is declared: the record says why it was possible
        attempt.action = op.name if op.acts_as is None else op.acts_as(attempt.request)
        caller = attempt.caller
        check_duty(caller, attempt.action)
        if caller.standing.person:
            revision = self.revisions.of(caller.tenant)
            check_roles_apart(attempt, revision, own=op.self_service, also=op.name)
            if not op.self_service:
                check_assurance(attempt, revision)

    def decide(self, attempt: Attempt, op: Operation, key: LoadedKey | None) -> Decision:
        """Return what policy says of the attempt on `key`. Refused, or a key that seems not to exist, where it says no."""
        decision = self.permit(attempt, attempt.action, key, self_service=op.self_service)
        if decision.alternatives and not self._kinds[attempt.action].context:
            choose(attempt, decision, {})
        return decision

    def permit(self, attempt: Attempt, action: str, key: LoadedKey | None, *, self_service: bool = False) -> Decision:
        """Return the decision on another action or key of the same attempt, or raise like `decide`."""
        revision = self.revisions.of(attempt.caller.tenant)
        decision = self._remembered(attempt, action, None if key is None else key.key, revision, self_service=self_service)
        attempt.decision = decision
        if decision.allowed:
            return decision
        if key is not None and action != "key-read":
            known = self._remembered(attempt, "key-read", key.key, revision)
            if not known.allowed or attempt.caller.role is Role.APPLICATION:
                raise unknown_key()
        elif key is not None:
            raise unknown_key()
        raise Refused(decision.why, decision.hint)

    def check_others(self, attempt: Attempt) -> None:
        """Judge self-service that is done to somebody else like any other operation: assurance, then policy."""
        revision = self.revisions.of(attempt.caller.tenant)
        if attempt.caller.standing.person:
            check_roles_apart(attempt, revision)
        check_assurance(attempt, revision)
        networks = networks_of(attempt.peer, revision)
        question = question_of(attempt, attempt.action, None, revision, networks, fresh=is_fresh(attempt))
        decision = attempt.decision = self._decide(attempt, question, None, revision, self_service=False)
        if not decision.allowed:
            raise Refused(decision.why, decision.hint)

    def judge_unknown(self, attempt: Attempt, ref: str) -> None:
        """Spend on a key that does not exist what a forbidden one costs: else the first answer's time would tell them apart."""
        revision = self.revisions.of(attempt.caller.tenant)
        self._remembered(attempt, attempt.action, nothing(ref), revision)
        self._remembered(attempt, "key-read", nothing(ref), revision)

    def knows(self, attempt: Attempt, key: Key) -> bool:
        """Tell whether the caller may know of a key."""
        return self._remembered(attempt, "key-read", key, self.revisions.of(attempt.caller.tenant)).allowed

    def suppose(self, asking: Asking, key: Key | None, revision: Compiled) -> tuple[Question, Decision]:
        """Return the decision on an attempt that nobody makes, and the question it answers; nothing is remembered."""
        networks = networks_of(asking.peer, revision)
        question = question_of(asking, asking.action, key, revision, networks, fresh=is_fresh(asking))
        kind = self._kinds[asking.action]
        decision = self._decide(asking, question, key, revision, self_service=kind.own)
        return question.granting() if granted_to(asking, question, key, contextual=kind.context) else question, decision

    # ---- one decision ---------------------------------------------------------------------------------------------------
    def _remembered(
        self, attempt: Attempt, action: str, key: Key | None, revision: Compiled, *, self_service: bool = False
    ) -> Decision:
        caller, peer = attempt.caller, attempt.peer
        if caller.revision is not revision:
            caller.allowed.clear()
            caller.revision = revision
        networks = networks_of(peer, revision)
        fresh = is_fresh(attempt)
        asked = (action, key and (key.id, key.rev), networks, attempt.purpose, fresh, peer.plane)
        decision: Decision | None = caller.allowed.get(asked)
        if decision is None:
            if len(caller.allowed) >= _REMEMBERED:
                caller.allowed.clear()
            question = question_of(attempt, action, key, revision, networks, fresh=fresh)
            decision = caller.allowed[asked] = self._decide(attempt, question, key, revision, self_service=self_service)
        return decision

    def _decide(
        self, attempt: Asking, question: Question, key: Key | None, revision: Compiled, *, self_service: bool
    ) -> Decision:
        action = question.action
        if self_service:
            return Decision(allowed=True)
        contextual = self._kinds[action].context
        granted = granted_to(attempt, question, key, contextual=contextual)
        if granted:
            question = question.granting()
        verdict = revision.decide(question)
        if not verdict.allowed:
            return _refusal(action, verdict)
        rights = alternatives(verdict, granted, revision, contextual=contextual)
        if rights is None:
            return Decision(
                allowed=False,
                policies=",".join(verdict.permits),
                why=f"what permits {action} asks for an encryption context, and {action} has none",
                hint="ask whoever keeps the policy for a right without a condition on the context",
            )
        names = [alternative.policy for alternative in granted] if verdict.permits == (BUILT_IN,) else verdict.permits
        return Decision(
            allowed=True,
            alternatives=rights,
            approval=revision.rules.approval(action),
            fresh_seconds=revision.rules.fresh_seconds(action),
            policies=",".join(dict.fromkeys(names)),
        )


def _refusal(action: str, verdict: Verdict) -> Decision:
    named = ",".join(verdict.forbids)
    if verdict.errors:
        why, hint = f"the policy could not be evaluated for {action}, so it is refused", "tell whoever keeps the policy"
    elif named:
        why, hint = f"{action} is forbidden by policy {named}", "`keyclave policy explain` shows the policy and what it looks at"
    else:
        why, hint = f"no policy, scope or grant permits {action}", "ask whoever keeps the policy, or for a grant"
    return Decision(allowed=False, policies=named, why=why, hint=hint)

"""The one place that asks policy, for every operation of every protocol: listener, duty, assurance, then Cedar on the key.

A decision is remembered with the caller it was made for, until the caller or the policy changes; what can change between two
requests of one caller (network, purpose, age of the proof of presence) is part of what it is remembered under.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import AssuranceRequired, Malformed, Refused, SelfConflict, StepUpRequired
from keyclave.crypto.digest import same
from keyclave.identity.caller import Caller
from keyclave.identity.elevation import BREAK_GLASS
from keyclave.identity.grants import PURPOSES, matching
from keyclave.identity.peer import Peer, Plane
from keyclave.identity.roles import Role
from keyclave.keys.model import Cryptoperiod, Key
from keyclave.operations.keyring import LoadedKey, unknown_key
from keyclave.operations.operation import Operation
from keyclave.operations.revisions import Revisions
from keyclave.policy.cedar import BUILT_IN, OWN_GRANTS
from keyclave.policy.decision import Alternative, Decision
from keyclave.policy.duties import SCOPED, check_duty
from keyclave.policy.engine import Compiled, Question, Verdict

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt

FRESH = 5 * 60 * MICROSECONDS  # what `context.fresh` means in a policy
_REMEMBERED = 4096  # decisions of one caller
_NO_NETWORKS: frozenset[str] = frozenset()
_ADVICE = {
    2: "log in with a passkey: `keyclave login`",
    3: "log in with a passkey that stays on one device, such as a security key: `keyclave login`; one that is synced proves less",
}


class Asking(Protocol):
    """What a decision looks at of an attempt: a supposed one has no more."""

    action: str
    at: int
    purpose: str

    @property
    def caller(self) -> Caller: ...

    @property
    def peer(self) -> Peer: ...


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
        standing = attempt.caller.standing
        fresh = standing.person and attempt.at - standing.stepped_up_at <= FRESH
        question = _question(attempt, attempt.action, None, revision, _networks(attempt.peer, revision), fresh=fresh)
        decision = attempt.decision = self._decide(attempt, question, None, revision, self_service=False)
        if not decision.allowed:
            raise Refused(decision.why, decision.hint)

    def judge_unknown(self, attempt: Attempt, ref: str) -> None:
        """Spend on a key that does not exist what a forbidden one costs: else the first answer's time would tell them apart."""
        revision = self.revisions.of(attempt.caller.tenant)
        self._remembered(attempt, attempt.action, _nothing(ref), revision)
        self._remembered(attempt, "key-read", _nothing(ref), revision)

    def knows(self, attempt: Attempt, key: Key) -> bool:
        """Tell whether the caller may know of a key."""
        return self._remembered(attempt, "key-read", key, self.revisions.of(attempt.caller.tenant)).allowed

    def suppose(self, asking: Asking, key: Key | None, revision: Compiled) -> tuple[Question, Decision]:
        """Return the decision on an attempt that nobody makes, and the question it answers; nothing is remembered."""
        standing = asking.caller.standing
        fresh = standing.person and asking.at - standing.stepped_up_at <= FRESH
        question = _question(asking, asking.action, key, revision, _networks(asking.peer, revision), fresh=fresh)
        kind = self._kinds[asking.action]
        decision = self._decide(asking, question, key, revision, self_service=kind.own)
        return question.granting() if _granted(asking, question, key, contextual=kind.context) else question, decision

    # ---- one decision ---------------------------------------------------------------------------------------------------
    def _remembered(
        self, attempt: Attempt, action: str, key: Key | None, revision: Compiled, *, self_service: bool = False
    ) -> Decision:
        caller, peer = attempt.caller, attempt.peer
        if caller.revision is not revision:
            caller.allowed.clear()
            caller.revision = revision
        networks = _networks(peer, revision)
        standing = caller.standing
        fresh = standing.person and attempt.at - standing.stepped_up_at <= FRESH
        asked = (action, key and (key.id, key.rev), networks, attempt.purpose, fresh, peer.plane)
        decision: Decision | None = caller.allowed.get(asked)
        if decision is None:
            if len(caller.allowed) >= _REMEMBERED:
                caller.allowed.clear()
            question = _question(attempt, action, key, revision, networks, fresh=fresh)
            decision = caller.allowed[asked] = self._decide(attempt, question, key, revision, self_service=self_service)
        return decision

    def _decide(
        self, attempt: Asking, question: Question, key: Key | None, revision: Compiled, *, self_service: bool
    ) -> Decision:
        action = question.action
        if self_service:
            return Decision(allowed=True)
        contextual = self._kinds[action].context
        granted = _granted(attempt, question, key, contextual=contextual)
        if granted:
            question = question.granting()
        verdict = revision.decide(question)
        if not verdict.allowed:
            return _refusal(action, verdict)
        alternatives = _alternatives(verdict, granted, revision, contextual=contextual)
        if alternatives is None:
            return Decision(
                allowed=False,
                policies=",".join(verdict.permits),
                why=f"what permits {action} asks for an encryption context, and {action} has none",
                hint="ask whoever keeps the policy for a right without a condition on the context",
            )
        names = [alternative.policy for alternative in granted] if verdict.permits == (BUILT_IN,) else verdict.permits
        return Decision(
            allowed=True,
            alternatives=alternatives,
            approval=revision.rules.approval(action),
            fresh_seconds=revision.rules.fresh_seconds(action),
            policies=",".join(dict.fromkeys(names)),
        )


def choose(attempt: Attempt, decision: Decision, context: Mapping[str, str]) -> None:
    """Settle by which right an encryption context is admitted, the cheapest first; refuse where none admits it."""
    for alternative in decision.alternatives:
        if alternative.until and attempt.at >= alternative.until:
            continue
        if alternative.tags and not _holds(attempt, alternative.tags, context):
            continue
        if alternative.admits(context):
            if alternative.grant:
                attempt.use_grant(alternative)
            return
    unmet = sorted({name for name in (alternative.unmet(context) for alternative in decision.alternatives) if name})
    raise Refused(  # what is missing is named, what would be right is not
        "no right of the caller admits this encryption context" + (f": see {', '.join(map(repr, unmet))}" if unmet else ""),
        "send the names and values that the credential, grant or policy asks for",
    )


def _holds(attempt: Attempt, tags: Mapping[str, str], context: Mapping[str, str]) -> bool:
    """Tell whether an encryption context holds a reference of which only keyed hashes are known."""
    hashed, tenant = attempt.desk.contexts.hashed, attempt.caller.tenant
    return any(name in context and same(hashed(tenant, name, context[name]).encode(), tag.encode()) for name, tag in tags.items())


def _granted(attempt: Asking, question: Question, key: Key | None, *, contextual: bool) -> list[Alternative]:
    """Return the rights that the credential's own scope and the principal's grants give on a key, or on none."""
    caller, action = attempt.caller, question.action
    if caller.role is Role.BREAK_GLASS:
        return _rights_of_glass(attempt, action, key, contextual=contextual)
    if caller.role is not Role.APPLICATION:
        return []
    if action in OWN_GRANTS:
        return [Alternative(policy="own-grants")]
    if action not in SCOPED:
        return []
    rights: list[Alternative] = []
    scope = caller.scope
    if scope is not None and action in scope.operations and (key is None or scope.names_key(key.id, key.name)):
        rights.append(Alternative(context=scope.context if contextual else {}, policy="scope"))
    if caller.standing.grants:
        rights += _rights_of_grants(attempt, question, key)
    return rights


def _rights_of_glass(attempt: Asking, action: str, key: Key | None, *, contextual: bool) -> list[Alternative]:
    """Return the right that a running break-glass gives; what a key is called may be read of every key it reaches."""
    standing = attempt.caller.standing
    reach = standing.reach
    if reach is None or key is None:
        return []
    asked = reach.operations[0] if action in ("key-read", "public-key") else action
    if not reach.permits(asked, key.id, key.name):
        return []
    tags = reach.tags if contextual else {}
    return [Alternative(grant=standing.elevation, policy=BREAK_GLASS, tags=tags, until=standing.until)]


def _rights_of_grants(attempt: Asking, question: Question, key: Key | None) -> list[Alternative]:
    named = ("", "") if key is None else (key.id, key.name)
    found = matching(attempt.caller.standing.grants, question.action, *named, question.networks, question.purpose, attempt.at)
    return [
        Alternative(
            context=grant.context,
            counted=grant.counted,
            exact=grant.exact,
            grant=grant.id,
            policy="grant",
            until=grant.expires_at,
        )
        for grant in found
    ]


def _alternatives(
    verdict: Verdict, granted: list[Alternative], revision: Compiled, *, contextual: bool
) -> tuple[Alternative, ...] | None:
    """Return the rights of which one must admit the context; none listed where one asks nothing, None where none can be met."""
    rights = list(granted) if BUILT_IN in verdict.permits else []
    for name in verdict.permits:
        if name != BUILT_IN:
            rights.append(Alternative(context=revision.policies[name].context, policy=name))
    if any(not right.context and not right.grant and not right.until for right in rights):
        return ()
    if not contextual:
        rights = [right for right in rights if not right.context]
    return tuple(sorted(rights, key=lambda right: (right.counted, bool(right.grant)))) or None


def _refusal(action: str, verdict: Verdict) -> Decision:
    named = ",".join(verdict.forbids)
    if verdict.errors:
        why, hint = f"the policy could not be evaluated for {action}, so it is refused", "tell whoever keeps the policy"
    elif named:
        why, hint = f"{action} is forbidden by policy {named}", "`keyclave policy explain` shows the policy and what it looks at"
    else:
        why, hint = f"no policy, scope or grant permits {action}", "ask whoever keeps the policy, or for a grant"
    return Decision(allowed=False, policies=named, why=why, hint=hint)


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


def _networks(peer: Peer, revision: Compiled) -> frozenset[str]:
    """Return the names of the networks that a peer's address lies in; remembered with the connection."""
    if not revision.networks:
        return _NO_NETWORKS
    known = peer.networks.get(revision)
    if known is None:
        peer.networks.clear()  # a connection outlives many revisions
        try:
            address = ipaddress.ip_address(peer.address)
        except ValueError:
            return _NO_NETWORKS
        address = getattr(address, "ipv4_mapped", None) or address  # one machine, one answer: a forbid holds in both spellings
        known = peer.networks[revision] = frozenset(
            name for name, blocks in revision.networks for block in blocks if address in block
        )
    return known


def _question(
    attempt: Asking, action: str, key: Key | None, revision: Compiled, networks: frozenset[str], *, fresh: bool
) -> Question:
    caller = attempt.caller
    standing = caller.standing
    described = {}
    if key is not None:
        names = ("name", "spec", "purpose", "owner", "environment", "classification", "location")
        described = {name: str(getattr(key, name)) for name in names}
    return Question(
        tenant=caller.tenant,
        principal=caller.principal,
        person=standing.person,
        duty=caller.role.value,
        roles=revision.ancestors(standing.roles),
        action=action,
        aal=standing.aal,
        elevated=bool(standing.elevation),
        fresh=fresh,
        granted=False,
        how=standing.how,
        networks=networks,
        plane=attempt.peer.plane.value,
        purpose=attempt.purpose,
        key_id="" if key is None else key.id,
        key=described,
        tags={} if key is None else key.tags,
    )


def _nothing(ref: str) -> Key:
    """Return a key that is none, to be judged in place of one that was not found."""
    return Key(
        id=f"nothing:{ref}", tenant="", name=ref, spec="", purpose="", owner="", environment="", classification="", location="",
        tags={}, cryptoperiod=Cryptoperiod(protect_days=1, process_days=1), rotation=None, created_at=0, created_by="",
        primary=None, rev=0,
    )  # fmt: skip

"""The rights a caller brings along (scope, grants, a running break-glass), what policy adds, and which of them a context fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keyclave.core.errors import Refused
from keyclave.crypto.digest import same
from keyclave.identity.elevation import BREAK_GLASS
from keyclave.identity.grants import matching
from keyclave.identity.roles import Role
from keyclave.keys.model import Key
from keyclave.operations.asking import Asking
from keyclave.policy.cedar import BUILT_IN, OWN_GRANTS
from keyclave.policy.decision import Alternative, Decision
from keyclave.policy.duties import SCOPED
from keyclave.policy.engine import Compiled, Question, Verdict

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt


def granted_to(attempt: Asking, question: Question, key: Key | None, *, contextual: bool) -> list[Alternative]:
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


def alternatives(
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

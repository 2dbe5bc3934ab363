"""who-can: everybody who may do an operation on a key, by what, under which conditions; and those who only could, apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.core.clock import to_text
from keyclave.core.errors import Malformed
from keyclave.identity.roles import Role
from keyclave.operations.apart import first_barring, histories_on_key
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.policy.explaining import ShownApart, ShownApproval, shown_apart, shown_approval
from keyclave.operations.policy.forms import OperationName, Ref
from keyclave.operations.policy.holding import Candidate, candidates
from keyclave.operations.policy.supposing import readable_key
from keyclave.policy.apart import reason
from keyclave.policy.cedar import BUILT_IN
from keyclave.policy.engine import Compiled
from keyclave.policy.reach import TENANT, Lens, Target, barring, question, sure_enough, that_matter
from keyclave.policy.situations import Situation

if TYPE_CHECKING:
    from collections.abc import Hashable

    from keyclave.operations.desk import Desk

_KNOWN = frozenset(("elevated", "granted"))


class WhoQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`key`: by name or id, for an operation that is done on one. A page: after the principal `cursor`, at most `limit`."""

    operation: OperationName
    key: Ref = ""
    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 1000


class Who(msgspec.Struct, kw_only=True):
    """One who can. `by`: the policies, and the scope, grant or elevation that gives the right; `when`: "always", or the
    circumstances; `context`: what the encryption context must hold (any one of the list); `until`: null where it does not end."""

    principal: str
    kind: str
    duty: str
    roles: list[str]
    by: list[str]
    when: str
    context: list[dict[str, list[str]]]
    until: str | None


class Barred(msgspec.Struct, kw_only=True):
    """Somebody whom a rule that keeps duties apart holds off, and why."""

    principal: str
    why: str


class WhoAnswer(Answer, kw_only=True, omit_defaults=False):
    """`can` now; `could` after taking on a role for a while; `barred`: who would be among them, but for what they did on
    the key before; `sealed`: people who may break the glass, who are not named here."""

    operation: str
    key: str
    can: list[Who]
    could: list[Who]
    barred: list[Barred]
    sealed: int
    approval: ShownApproval | None
    apart: list[ShownApart]
    next: str | None


def who_can(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: WhoQuery) -> WhoAnswer:
    """Ask for everybody in turn, one of each class that policies tell apart."""
    revision = desk.access.revisions.of(attempt.caller.tenant)
    kind = revision.kinds.get(query.operation)
    if kind is None:
        raise Malformed("there is no such operation", "`keyclave openapi` lists them")
    target, label = TENANT, ""
    if kind.on_key:
        if not query.key:
            raise Malformed(f"{query.operation} is done on a key", "name one: `keyclave who-can KEY OPERATION`")
        key = readable_key(desk, attempt, query.key)
        target, label = Target(id=key.id, described=described(key), tags=key.tags), key.name
    found = candidates(desk, attempt, query.operation, target.id, label, revision)
    judged = _Judged(revision, attempt.caller.tenant, query.operation, target)
    names = sorted({one.subject.name for one in found.all if one.subject.name > query.cursor})
    can: list[Who] = []
    could: list[Who] = []
    barred: dict[str, Barred] = {}
    shown: set[str] = set()
    tenant = attempt.caller.tenant
    read = (
        desk.store.read(lambda conn: histories_on_key(conn, revision, tenant, query.operation, target.id)) if kind.on_key else []
    )
    following = None
    by_name: dict[str, list[Candidate]] = {}
    for one in found.all:
        by_name.setdefault(one.subject.name, []).append(one)
    for name in names:
        entries = [
            (one, who, barring(revision, query.operation, one.subject))
            for one in by_name[name]
            if (who := judged.judge(one)) is not None
        ]
        if not entries:
            continue
        if len(shown) == query.limit:
            following = max(shown)
            break
        shown.add(name)
        by_act = first_barring(read, name)
        if by_act is not None or all(why for *_, why in entries):
            barred[name] = Barred(principal=name, why=entries[0][2] if by_act is None else reason(by_act))
            continue
        for one, who, why in entries:
            if not why:
                (could if one.eligible else can).append(who)
    attempt.key_id, attempt.count = target.id, max(1, len(shown))
    attempt.detail = {"operation": query.operation}
    return WhoAnswer(
        operation=query.operation,
        key=label,
        can=can,
        could=could,
        barred=list(barred.values()),
        sealed=found.sealed,
        approval=shown_approval(revision.rules.approval(query.operation)),
        apart=shown_apart(revision, query.operation),
        next=following,
    )


class _Judged:
    """Judges candidates, each class of them once."""

    def __init__(self, revision: Compiled, tenant: str, action: str, target: Target) -> None:
        self._revision, self._tenant, self._action, self._target = revision, tenant, action, target
        self._lens = Lens((revision,))
        self._known: dict[Hashable, tuple[tuple[str, ...], str, list[dict[str, list[str]]]] | None] = {}

    def judge(self, one: Candidate) -> Who | None:
        """Return what a candidate can, or None."""
        asked = (self._lens.subject(one.subject), one.aal, one.elevated, bool(one.by))
        if asked not in self._known:
            self._known[asked] = self._judge(one)
        known = self._known[asked]
        if known is None:
            return None
        policies, when, context = known
        return Who(
            principal=one.subject.name,
            kind="person" if one.subject.person else "workload",
            duty=one.subject.duty.value,
            roles=list(one.subject.roles),
            by=[*([one.by] if one.by else []), *policies],
            when="; ".join(part for part in (when, *one.conditions) if part and (part != "always" or not one.conditions)),
            context=[{name: list(values) for name, values in one.context.items()}] if one.context else context,
            until=None if not one.until else to_text(one.until),
        )

    def _judge(self, one: Candidate) -> tuple[tuple[str, ...], str, list[dict[str, list[str]]]] | None:
        revision = self._revision
        asked = that_matter(self._action, one.subject, (revision,), _KNOWN)
        policies: set[str] = set()
        good: list[Situation] = []
        for situation in asked.all:
            own = msgspec.structs.replace(
                situation, aal=min(situation.aal, one.aal), elevated=one.elevated, granted=_granted(one)
            )
            if not sure_enough(revision, self._action, one.subject, own):
                continue
            verdict = revision.decide(question(revision, self._tenant, self._action, one.subject, self._target, own))
            permits = [name for name in verdict.permits if name == BUILT_IN] if own.granted else list(verdict.permits)
            if verdict.allowed and permits:
                good.append(situation)
                policies.update(permits)
        if not good:
            return None
        contexts = [revision.policies[name].context for name in sorted(policies)]
        shown = [] if not all(contexts) else [{n: list(v) for n, v in context.items()} for context in contexts]
        return tuple(sorted(policies - {BUILT_IN})), asked.describe(good, revision), shown


def _granted(one: Candidate) -> bool:
    """Tell whether the right comes from a scope, a grant or a broken glass, which the built-in policy permits."""
    return bool(one.by) and one.subject.duty in (Role.APPLICATION, Role.BREAK_GLASS)


def described(key: object) -> dict[str, str]:
    """Return what policies look at of a key."""
    names = ("name", "spec", "purpose", "owner", "environment", "classification", "location")
    return {name: str(getattr(key, name)) for name in names}

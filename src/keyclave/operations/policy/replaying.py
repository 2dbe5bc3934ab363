"""One recorded call under two policies. Calls alike are judged once, so replaying a log takes little longer than reading it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from keyclave.audit.event import Event
from keyclave.core.errors import Sealed, SelfConflict
from keyclave.identity.roles import SHARE_HOLDER, Role
from keyclave.identity.scope import Scope
from keyclave.operations.policy.replaying_acts import HELD_APART, ActsReplay
from keyclave.operations.policy.standings import MOST_WORKLOADS, tenancy
from keyclave.policy.cedar import BUILT_IN
from keyclave.policy.duties import SCOPED
from keyclave.policy.engine import Compiled
from keyclave.policy.reach import TENANT, Right, Subject, barring, question, right, that_matter
from keyclave.policy.situations import Situation
from keyclave.store.access import credentials, workloads

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk

_REFUSALS = frozenset(("refused", "unknown", "assurance_required", "step_up_required"))
_GIVEN = frozenset(("scope", "grant", "own-grants", "break-glass", BUILT_IN))
_KNOWN = frozenset(("granted", "how", "networks", "purpose"))
_REMEMBERED = 200_000
UNASKED = "no policy is asked about it: everybody does this for themselves, or the server does"
NOBODY = "it was not known who asked"
KEYLESS = "the record names no key: it was refused without telling whether there is such a key, which a new policy may change"
_ROLES = frozenset(role.value for role in Role)
_LEVELS = {"": (1,), "mtls": (1,), "totp": (2,), "passkey": (1, 2, 3)}
"""Assurance levels that a method of proof can give; any, where it is not here."""


class Replayed(msgspec.Struct, frozen=True):
    """`effect` is empty where nothing would change; `policies` decide under the proposed bundle."""

    effect: str
    key: str
    policies: tuple[str, ...]


class Replay:
    """Judges the events of one tenant."""

    def __init__(self, desk: Desk, attempt: Attempt, before: Compiled, after: Compiled) -> None:
        here = tenancy(desk, attempt)
        self._desk, self._tenant = desk, attempt.caller.tenant
        self._before, self._after = before, after
        self._roles = {row.name: tuple(role for role in row.roles if role != SHARE_HOLDER) for row in here.principals}
        self._acts = ActsReplay(desk, self._tenant, before, after)
        self._people = {row.name for row in here.principals if row.person}
        self._targets = {target.id: target for target in here.targets}
        self._scopes = desk.store.read(self._read_scopes)
        self._known: dict[tuple[object, ...], Replayed] = {}
        self._constrained = {
            action
            for action, kind in before.kinds.items()
            if kind.context and any(policy.context for one in (before, after) for policy in one.concerning(action))
        }

    def judge(self, event: Event) -> Replayed | str:
        """Return what becomes of an event under the proposed bundle, or why that cannot be said; of other tenants nothing is."""
        kind = self._before.kinds.get(event.op)
        if event.tenant != self._tenant:
            return ""
        if event.outcome == SelfConflict.code:
            return HELD_APART
        if kind is None or (kind.own and not self._acts.concerns(event)):
            return UNASKED
        if not event.role or event.role not in _ROLES:
            return NOBODY
        if kind.on_key and event.key not in self._targets:
            return KEYLESS
        found = Replayed("", "", ()) if kind.own else self._by_policy(event)
        if not self._is_person(event) or event.outcome != "ok":
            return found
        apart = self._acts.judge(event)
        return apart if isinstance(apart, str) else _with_acts(found, *apart)

    def _by_policy(self, event: Event) -> Replayed:
        held = self._is_person(event) and self._acts.held_share(event.actor, event.at)
        granted = self._granted(event)
        asked: tuple[object, ...] = (
            event.actor, event.role, event.op, event.key, event.how, event.source, event.purpose, granted, held,
            event.outcome in _REFUSALS,
            msgspec.json.encode(event.context, order="sorted") if event.op in self._constrained and event.context else b"",
        )  # fmt: skip
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[asked] = self._judge(event, granted=granted, held=held)
        return known

    def _judge(self, event: Event, *, granted: bool, held: bool) -> Replayed:
        roles = (*self._roles.get(event.actor, ()), *((SHARE_HOLDER,) if held else ()))
        subject = Subject(name=event.actor, person=self._is_person(event), duty=Role(event.role), roles=roles)
        on_key = self._before.kinds[event.op].on_key
        target = self._targets[event.key] if on_key else TENANT
        went = event.outcome not in _REFUSALS
        asked = that_matter(event.op, subject, (self._before, self._after), _KNOWN)
        levels = _LEVELS.get(event.how, (1, 2, 3)) if subject.person else (1,)
        results = []
        for situation in dict.fromkeys(self._as_recorded(one, event, levels, granted) for one in asked.all):
            old, new = (self._allows(one, event, subject, target.id, situation) for one in (self._before, self._after))
            results.append((old, new))
        fitting = [pair for pair in results if pair[0] is went] or results
        effects = {_effect(old, new) for old, new in fitting}
        label = target.described.get("name", "")
        changed = effects - {""}
        if not changed:
            return Replayed("", label, ())
        effect = min(changed) if len(effects) == 1 else f"perhaps-{min(changed)}"
        return Replayed(effect, label, self._deciding(event, subject, target.id, granted, levels))

    def _as_recorded(self, situation: Situation, event: Event, levels: tuple[int, ...], granted: bool) -> Situation:
        """Return a situation with everything that the record says; the assurance level one that the method can give."""
        aal = situation.aal if situation.aal in levels else levels[-1]
        return msgspec.structs.replace(
            situation, aal=aal, address=event.source if _is_address(event.source) else "", granted=granted, how=event.how,
            purpose=event.purpose,
        )  # fmt: skip

    def _allows(self, compiled: Compiled, event: Event, subject: Subject, target: str, situation: Situation) -> bool:
        found = right(compiled, self._tenant, event.op, subject, self._targets.get(target, TENANT), situation)
        return found is not None and self._met(event, found)

    def _met(self, event: Event, rights: Right) -> bool:
        """Tell whether the recorded context meets one of the constraints: values are compared as the keyed hashes they are."""
        if any(not constraint for constraint in rights):
            return True
        recorded = event.context or {}
        return any(
            all(name in recorded and self._among(name, recorded[name], values) for name, values in constraint)
            for constraint in rights
        )

    def _among(self, name: str, recorded: list[str], values: tuple[str, ...]) -> bool:
        if "*" in values:
            return True
        try:
            tags = {self._desk.contexts.tag(self._tenant, name, value) for value in values}
        except Sealed:
            return False
        return tags.issuperset(recorded)

    def _deciding(self, event: Event, subject: Subject, target: str, granted: bool, levels: tuple[int, ...]) -> tuple[str, ...]:
        situation = self._as_recorded(Situation(), event, levels, granted)
        barred = barring(self._after, event.op, subject)
        if barred:
            return (barred,)
        asked = question(self._after, self._tenant, event.op, subject, self._targets.get(target, TENANT), situation)
        verdict = self._after.decide(asked)
        return verdict.forbids or verdict.permits

    # ---- who it was -------------------------------------------------------------------------------------------------------
    def _is_person(self, event: Event) -> bool:
        return event.actor in self._people or event.role != Role.APPLICATION.value

    def _granted(self, event: Event) -> bool:
        """Tell whether a scope or grant reached it then: the record says so, or the credential's scope does."""
        if event.grant or not _GIVEN.isdisjoint(event.policy.split(",")):
            return True
        if event.role != Role.APPLICATION.value or event.op not in SCOPED:
            return False
        scope = self._scopes.get(event.credential) or self._scopes.get(event.actor)
        if scope is None or event.op not in scope.operations:
            return False
        target = self._targets.get(event.key)
        return target is None or scope.names_key(target.id, target.described["name"])

    def _read_scopes(self, conn: Connection) -> dict[str, Scope]:
        found: dict[str, Scope] = {}
        after = ""
        while page := credentials.list_credentials(conn, self._tenant, after, 1000):
            found.update({one.id: one.scope for one in page if one.scope is not None})
            after = page[-1].id
        for workload in workloads.list_workloads(conn, self._tenant, "", MOST_WORKLOADS):
            found[workload.name] = workload.scope
        return found


def _with_acts(found: Replayed, before: bool, after: bool, why: str) -> Replayed:
    """Return what becomes of a call that went when rules over acts are looked at too: of the one bundle, of the other."""
    if before is after:
        return found
    if after:  # what only the proposed rules keep from its doer
        effect = "refused" if found.effect in ("", "refused", "perhaps-refused") else ""
    else:
        effect = "allowed" if found.effect in ("", "allowed", "perhaps-allowed") else ""
    return Replayed(effect, found.key, (why,) if effect else ())


def _effect(old: bool, new: bool) -> str:
    if old is new:
        return ""
    return "allowed" if new else "refused"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

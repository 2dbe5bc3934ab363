"""Who reaches what: principals and keys, told apart no finer than the policies do, and what another policy would change for them.

Ten thousand principals fall into as many classes as policies distinguish: by duty, roles, and the names that policies say. One of
each class is judged, by the engine that decides requests.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from keyclave.identity.roles import Role
from keyclave.policy.cedar import BUILT_IN, Policy
from keyclave.policy.duties import DUTIES
from keyclave.policy.engine import Compiled, Question
from keyclave.policy.situations import Situation, Situations, read_by, situations


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A principal. `roles` beside the duty, as they are given."""

    name: str
    person: bool
    duty: Role
    roles: tuple[str, ...] = ()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A key, or the tenant (no `id`)."""

    id: str = ""
    described: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}


TENANT = Target()
Right = frozenset[tuple[tuple[str, tuple[str, ...]], ...]]
"""Constraints on the encryption context of which one must hold; an empty one is none."""


def question(compiled: Compiled, tenant: str, action: str, subject: Subject, target: Target, situation: Situation) -> Question:
    """Return the question for the engine."""
    return Question(
        tenant=tenant,
        principal=subject.name,
        person=subject.person,
        duty=subject.duty.value,
        roles=compiled.ancestors((subject.duty.value, *subject.roles)),
        action=action,
        aal=situation.aal,
        elevated=situation.elevated,
        fresh=situation.fresh,
        granted=situation.granted,
        how=situation.how,
        networks=situation.networks(compiled),
        plane=situation.plane,
        purpose=situation.purpose,
        key_id=target.id,
        key=target.described,
        tags=target.tags,
    )


def right(compiled: Compiled, tenant: str, action: str, subject: Subject, target: Target, situation: Situation) -> Right | None:
    """Return what a subject may do in a situation, None if not: duty, assurance and policies together, approval aside."""
    if subject.duty not in DUTIES[action] or not sure_enough(compiled, action, subject, situation):
        return None
    if barring(compiled, action, subject):
        return None
    verdict = compiled.decide(question(compiled, tenant, action, subject, target, situation))
    if not verdict.allowed:
        return None
    return frozenset(tuple(sorted(compiled.policies[name].context.items())) for name in verdict.permits)


def barring(compiled: Compiled, action: str, subject: Subject) -> str:
    """Return which rule over the roles that a person holds keeps them from an operation; empty if none does."""
    if not subject.person:
        return ""
    return compiled.barring(action, (subject.duty.value, *subject.roles), own=compiled.kinds[action].own)


def sure_enough(compiled: Compiled, action: str, subject: Subject, situation: Situation) -> bool:
    """Tell whether rules.toml is content with the assurance of a person in a situation."""
    rules = compiled.rules
    if not subject.person:
        return True
    needed = rules.assurance.of(subject.duty)
    approval = rules.approval(action)
    if approval is not None:
        needed = max(needed, approval.assurance)
    return situation.aal >= needed and (situation.fresh or not rules.fresh_seconds(action))


def that_matter(action: str, subject: Subject, compiled: Sequence[Compiled], known: frozenset[str] = frozenset()) -> Situations:
    """Return the situations in which the answer on an action may differ for a subject, circumstances that are known aside."""
    names = set(read_by(policy for one in compiled for policy in one.concerning(action) if policy.id != BUILT_IN))
    if subject.duty in (Role.APPLICATION, Role.BREAK_GLASS):
        names.add("granted")
    if subject.person and any(one.rules.assurance != compiled[0].rules.assurance for one in compiled):
        names.add("aal")
    return situations(names - known, compiled)


class Lens:
    """What some policies can tell apart."""

    def __init__(self, compiled: Iterable[Compiled]) -> None:
        self._names: set[tuple[str, str]] = set()
        self._attributes: set[str] = set()
        for policy in (policy for one in compiled for policy in one.policies.values()):
            self._look(policy)

    def subject(self, subject: Subject) -> Hashable:
        """Return what is the same for subjects that no policy tells apart."""
        kind = "Person" if subject.person else "Workload"
        own = subject.name if (kind, subject.name) in self._names else ""
        return subject.person, subject.duty, frozenset(subject.roles), own

    def target(self, target: Target) -> Hashable:
        """Return what is the same for keys that no policy tells apart."""
        described = tuple((name, target.described[name]) for name in sorted(self._attributes & target.described.keys()))
        tags = frozenset(tag for tag in target.tags.items() if ("Tag", f"{tag[0]}={tag[1]}") in self._names)
        return described, tags, target.id if ("Key", target.id) in self._names else ""

    def _look(self, policy: Policy) -> None:
        tree = policy.tree()
        for part in ("principal", "resource", "conditions"):
            self._collect(tree.get(part))

    def _collect(self, form: Any) -> None:
        if isinstance(form, list):
            for item in form:
                self._collect(item)
        elif isinstance(form, dict):
            if isinstance(form.get("type"), str) and isinstance(form.get("id"), str):
                self._names.add((form["type"], form["id"]))
            if isinstance(form.get("attr"), str):
                self._attributes.add(form["attr"])
            for value in form.values():
                self._collect(value)


def classes(lens: Lens, subjects: Iterable[Subject]) -> list[list[Subject]]:
    """Sort subjects into classes that no policy tells apart."""
    found: dict[Hashable, list[Subject]] = {}
    for subject in subjects:
        found.setdefault(lens.subject(subject), []).append(subject)
    return list(found.values())


def target_classes(lens: Lens, targets: Iterable[Target]) -> list[list[Target]]:
    """Sort keys into classes that no policy tells apart."""
    found: dict[Hashable, list[Target]] = {}
    for target in targets:
        found.setdefault(lens.target(target), []).append(target)
    return list(found.values())

"""What differs between two bundles: policies by their id and meaning, rules by their place, and who gains or loses what by it.

Meaning is Cedar's own parsed form: white space, comments and the order of policies are no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from keyclave.policy.apart import Apart
from keyclave.policy.engine import Compiled
from keyclave.policy.reach import (
    TENANT,
    Lens,
    Right,
    Subject,
    Target,
    classes,
    right,
    target_classes,
    that_matter,
)
from keyclave.policy.rules import Rules

MOST_DECISIONS = 20_000  # of one comparison: some four seconds
SHOWN = 20  # names of each change


class RuleChange(msgspec.Struct, frozen=True, kw_only=True):
    """A setting of rules.toml: `place` like "elevation.max_minutes"; None where it is not there."""

    place: str
    before: Any
    after: Any


class PolicyChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of policies."""

    added: list[str]
    removed: list[str]
    changed: list[str]

    def all(self) -> set[str]:
        """Return every id that differs."""
        return {*self.added, *self.removed, *self.changed}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Principals who gain or lose operations on keys, or whose condition on the encryption context changes.

    `effect` is gains, loses or changes; `principals` and `keys` show the first twenty; no keys: the tenant as a whole. `where`
    says in which situations.
    """

    effect: str
    principals: list[str]
    principal_count: int
    operations: list[str]
    keys: list[str]
    key_count: int
    where: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`left_out` counts (class of principals, operation) pairs that were not compared, for there were too many."""

    changes: list[Change]
    left_out: int


def policy_changes(before: Compiled, after: Compiled) -> PolicyChanges:
    """Compare policies by id and meaning."""
    old, new = before.policies, after.policies
    both = sorted(old.keys() & new.keys())
    return PolicyChanges(
        added=sorted(new.keys() - old.keys()),
        removed=sorted(old.keys() - new.keys()),
        changed=[name for name in both if (old[name].form, old[name].context) != (new[name].form, new[name].context)],
    )


def rule_changes(before: Rules, after: Rules) -> list[RuleChange]:
    """Compare rules setting by setting."""
    old, new = dict(_flat("", msgspec.to_builtins(before))), dict(_flat("", msgspec.to_builtins(after)))
    places = sorted(old.keys() | new.keys())
    return [
        RuleChange(place=place, before=old.get(place), after=new.get(place))
        for place in places
        if old.get(place) != new.get(place)
    ]


def compare(before: Compiled, after: Compiled, tenant: str, subjects: Sequence[Subject], targets: Sequence[Target]) -> Comparison:
    """Return what would change for whom. Only operations that a difference concerns are judged."""
    lens = Lens((before, after))
    groups, keys = classes(lens, subjects), target_classes(lens, targets)
    found: dict[tuple[int, str, str, tuple[int, ...]], list[str]] = {}
    left, left_out = MOST_DECISIONS, 0
    for action in _affected(before, after):
        places = keys if before.kinds[action].on_key else [[TENANT]]
        for number, group in enumerate(groups):
            asked = that_matter(action, group[0], (before, after))
            if left < 0 or not places:
                left_out += bool(places)
                continue
            changed: dict[tuple[str, str], list[int]] = {}
            for place, those in enumerate(places):
                left -= 2 * len(asked.all)
                rights = [
                    (
                        situation,
                        right(before, tenant, action, group[0], those[0], situation),
                        right(after, tenant, action, group[0], those[0], situation),
                    )
                    for situation in asked.all
                ]
                for effect in ("gains", "loses", "changes"):
                    where = [situation for situation, old, new in rights if _effect(old, new) == effect]
                    if where:
                        changed.setdefault((effect, asked.describe(where, after)), []).append(place)
            for (effect, text), numbers in changed.items():
                at = tuple(numbers) if before.kinds[action].on_key else ()
                found.setdefault((number, effect, text, at), []).append(action)
    changes = [_change(groups[who], effect, text, [keys[n] for n in at], ops) for (who, effect, text, at), ops in found.items()]
    return Comparison(changes=changes, left_out=left_out)


def _change(group: list[Subject], effect: str, where: str, keys: list[list[Target]], operations: list[str]) -> Change:
    names = [target.described.get("name") or target.id for those in keys for target in those]
    return Change(
        effect=effect,
        principals=[subject.name for subject in group[:SHOWN]],
        principal_count=len(group),
        operations=sorted(operations),
        keys=sorted(names)[:SHOWN],
        key_count=len(names),
        where=where,
    )


def _effect(old: Right | None, new: Right | None) -> str:
    if old == new:
        return ""
    if old is None:
        return "gains"
    return "loses" if new is None else "changes"


def _affected(before: Compiled, after: Compiled) -> list[str]:
    """Return the operations that a difference may concern."""
    rules = [(r.roles, r.assurance, r.networks, r.sensitive, r.exclusive, _of_holders(r)) for r in (before.rules, after.rules)]
    if rules[0] != rules[1]:
        return sorted(before.kinds)
    names = policy_changes(before, after).all()
    differing = [policies[name] for policies in (before.policies, after.policies) for name in names if name in policies]
    return sorted({action for policy in differing for action in policy.actions})


def _of_holders(rules: Rules) -> tuple[Apart, ...]:
    return tuple(rule for rule in rules.apart if rule.holder)


def _flat(place: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{place}.{name}" if place else str(name), inner)
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from _flat(f"{place}[{number}]", inner)
    else:
        yield place, list(value) if isinstance(value, tuple) else value

"""Separation of duties as data, the dynamic half: who did one act on a thing does not do, or approve, another on the same thing.

A rule is read beside the acts that people did on the thing before, in order. Rules are only ever added up: one more never permits
more, and the few that are built in (`LEAST_APART`) hold under every policy. spec/policy.md is the law.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from keyclave.core.errors import Malformed

SELF = "self"
"""In `first`: the person whom the other act is about."""
Over = Literal["key", "key-version", "person", "invitation", "elevation", "approval", "share"]
_Act = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9-]*$(?!\n)")]
_Acts = Annotated[tuple[_Act, ...], Meta(max_length=32)]


class Apart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who did one of `first` on a thing (`over` says of which kind) neither does one of `then` on it, nor approves one of
    `approve`. One of `undone_by`, by anybody, takes back what was done before it. `why` is for whoever is refused.

    `holder`, in place of `first` and `over`: whoever holds a share of the root's recovery key does or approves none of it."""

    first: _Acts = ()
    over: Over | None = None
    holder: bool = False
    then: _Acts = ()
    approve: _Acts = ()
    undone_by: _Acts = ()
    why: Annotated[str, Meta(max_length=256)] = ""


class Act(msgspec.Struct, frozen=True):
    """What somebody did on a thing."""

    action: str
    principal: str


_ABOUT_ONESELF = ("privilege-grant", "invitation-create", "person-disable", "person-enable", "person-roles", "break-glass-review")

LEAST_APART: tuple[Apart, ...] = (
    Apart(
        first=("approval-request",),
        then=("approval-sign", "approval-deny"),
        over="approval",
        why="the requester neither approves nor denies it: withdraw it",
    ),
    Apart(
        first=("schedule-destruction",),
        then=("destroy",),
        over="key-version",
        undone_by=("cancel-destruction",),
        why="who scheduled a destruction does not perform it",
    ),
    Apart(
        first=("invitation-create",),
        then=("invitation-confirm",),
        over="invitation",
        why="a second person confirms an invitation",
    ),
    Apart(
        first=(SELF,),
        then=(*_ABOUT_ONESELF, "invitation-confirm"),
        approve=(*_ABOUT_ONESELF, "invitation-confirm"),
        over="person",
        why="nobody gives rights to themselves or judges what they did, by an approval neither",
    ),
)
"""What holds under every policy: else one person could make two of themselves."""


def in_force(rules: Iterable[Apart]) -> tuple[Apart, ...]:
    """Return the rules of a bundle with those that are built in, each once."""
    return tuple(dict.fromkeys((*LEAST_APART, *rules)))


def reason(rule: Apart) -> str:
    """Return what whoever is kept from something by a rule is told."""
    if rule.holder:
        return rule.why or "whoever holds a share of the root's recovery key neither does nor approves this"
    return rule.why or f"whoever did {' or '.join(rule.first)} on this {rule.over} neither does nor approves this"


def stands_first(rule: Apart, acts: Iterable[Act], subject: str, principal: str) -> bool:
    """Tell whether somebody is on the first side of a rule, over a thing with these acts in order."""
    if SELF in rule.first and principal == subject:
        return True
    found = False
    for act in acts:
        if act.action in rule.undone_by:
            found = False
        elif act.principal == principal and act.action in rule.first:
            found = True
    return found


def watched(rules: Iterable[Apart]) -> frozenset[str]:
    """Return the acts that must be read to judge by these rules."""
    return frozenset(name for rule in rules for name in (*rule.first, *rule.undone_by) if name != SELF)


def check_apart(rules: Iterable[Apart], over: Mapping[str, frozenset[str]]) -> None:
    """Refuse rules that could never hold anything apart, or under which nothing could be approved. `over`: operations to the
    kinds of things that they change, as the server keeps record of them."""
    for rule in rules:
        if not rule.then and not rule.approve:
            raise Malformed("rules.toml: an [[apart]] rule keeps nothing apart", "say what comes `then`, or what is not approved")
        if rule.holder:
            _check_holder(rule, over)
            continue
        if not rule.first or rule.over is None:
            raise Malformed(
                "rules.toml: an [[apart]] rule does not say what comes first",
                "say what comes `first`, and `over` what; or `holder = true`",
            )
        if SELF in rule.first and rule.over != "person":
            raise Malformed(f'rules.toml: an [[apart]] rule has "{SELF}" over a {rule.over}', 'it is for over = "person"')
        for place in ("first", "then", "approve", "undone_by"):
            for name in getattr(rule, place):
                if not (name == SELF and place == "first"):
                    _check_name(name, place, rule.over, over)
        both = sorted(set(rule.first) & set(rule.undone_by))
        if both:
            raise Malformed(f"rules.toml: {both[0]!r} of an [[apart]] rule would undo itself", "take it out of one of the two")
        if rule.over == "approval" and "approval-request" in rule.first and "approval-execute" in rule.then:
            raise Malformed(
                "rules.toml: an [[apart]] rule keeps whoever asks from executing, and nobody else executes",
                "nothing that waits for approval could be done any more, a change of this policy neither: leave it out",
            )


def _check_holder(rule: Apart, over: Mapping[str, frozenset[str]]) -> None:
    if rule.first or rule.undone_by or rule.over is not None:
        raise Malformed(
            "rules.toml: an [[apart]] rule of share holders looks at no act before it",
            "leave `first`, `over` and `undone_by` out",
        )
    for place in ("then", "approve"):
        for name in getattr(rule, place):
            if name not in over:
                raise _unknown(name, place)


def _unknown(name: str, place: str) -> Malformed:
    return Malformed(f"rules.toml: apart.{place} names {name!r}, which does not exist", "`keyclave openapi` lists the operations")


def _check_name(name: str, place: str, thing: str, over: Mapping[str, frozenset[str]]) -> None:
    if name not in over:
        raise _unknown(name, place)
    if thing not in over[name]:
        known = " or ".join(sorted(over[name])) or "nothing that a rule can be over"
        raise Malformed(f"rules.toml: {name} of an [[apart]] rule changes no {thing}", f"it changes: {known}")

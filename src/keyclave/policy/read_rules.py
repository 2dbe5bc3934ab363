"""From the text of rules.toml to rules that can hold: names that exist, roles without loops, operations somebody can approve."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping, Set

import msgspec

from keyclave.core.errors import Malformed
from keyclave.identity.roles import SHARE_HOLDER
from keyclave.policy.apart import check_apart
from keyclave.policy.classes import LEAST, Class, by_class
from keyclave.policy.rules import BUILT_IN_DUTIES, Rules, Sensitive


def read_rules(text: str, operations: Mapping[str, frozenset[str]], classed: Mapping[str, str] | None = None) -> Rules:
    """Read rules.toml strictly. Malformed, with the place, for anything that is not a rule or cannot hold.

    `operations`: each with the kinds of things that it changes and separation of duties can be over. `classed`: what they are
    sensitive for, as the table of operations says it.
    """
    try:
        rules = msgspec.convert(tomllib.loads(text), Rules)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as fault:
        raise Malformed(f"rules.toml: {fault}", "correct it; spec/policy.md lists every rule") from None
    _check_roles(rules)
    known = BUILT_IN_DUTIES | rules.roles.keys()
    for rule in rules.sensitive:
        _known("operations", rule.operations, operations.keys())
        _known("roles", rule.roles, known)
        if not rule.operations and not rule.classes:
            raise Malformed("rules.toml: a [[sensitive]] rule names nothing", "name `operations`, or `classes` of them")
    rules = _with_classes(rules, by_class(classed or {}))
    _check_approvable(rules)
    for exclusive in rules.exclusive:
        _known("roles", exclusive.roles, known | {SHARE_HOLDER})
    check_apart(rules.apart, operations)
    _known("elevation.approval_roles", rules.elevation.approval_roles, known)
    for name, sign_on in rules.sign_on.items():
        _known(f"sign_on.{name}.groups", tuple(sign_on.groups.values()), known)
    for name, blocks in rules.networks.items():
        for block in blocks:
            try:
                ipaddress.ip_network(block)
            except ValueError:
                raise Malformed(
                    f"rules.toml: {block!r} of network {name!r} is no address block", "write it like 10.1.0.0/16"
                ) from None
    return rules


def _check_roles(rules: Rules) -> None:
    for name, rule in rules.roles.items():
        if name in BUILT_IN_DUTIES:
            raise Malformed(f"rules.toml: {name!r} is a duty of Keyclave's own", "choose another name for the role")
        if name == SHARE_HOLDER:
            raise Malformed(f"rules.toml: {name!r} is what whoever holds a share is called", "choose another name for the role")
        for parent in rule.parents:
            duty = rules.roles[parent].duty.value if parent in rules.roles else parent
            if duty not in BUILT_IN_DUTIES:
                raise Malformed(
                    f"rules.toml: role {name!r} is nested in {parent!r}, which does not exist", "define it, or leave it out"
                )
            if duty != rule.duty.value:
                raise Malformed(
                    f"rules.toml: role {name!r} and its parent {parent!r} are of two duties", "a role belongs to one duty"
                )
        _refuse_loop(rules, name)


def _with_classes(rules: Rules, members: Mapping[Class, tuple[str, ...]]) -> Rules:
    """Return the rules with the operations of each class among those that they name, and the least that holds for some."""
    sensitive = [
        msgspec.structs.replace(
            rule, operations=tuple(dict.fromkeys((*rule.operations, *(name for one in rule.classes for name in members[one]))))
        )
        for rule in rules.sensitive
    ]
    named = {name for rule in sensitive for name in rule.operations}
    unnamed = tuple(name for one in LEAST for name in members[one] if name not in named)
    if unnamed:
        sensitive.append(Sensitive(operations=unnamed, fresh_minutes=0))
    return msgspec.structs.replace(rules, sensitive=tuple(sensitive))


def _check_approvable(rules: Rules) -> None:
    """Refuse rules of which together nobody could approve an operation: it would be refused for good. A class that has no
    operation yet is looked at too: one that comes later must not make the rules unreadable."""
    for one in Class:
        naming = [frozenset(rule.roles) for rule in rules.sensitive if one in rule.classes]
        if naming and not frozenset.intersection(*naming):
            raise Malformed(
                f"rules.toml: the [[sensitive]] rules for the class {one.value} have no role in common",
                "nobody could approve it: name a role that all of them admit",
            )
    for operation in sorted({operation for rule in rules.sensitive for operation in rule.operations}):
        approval = rules.approval(operation)
        if approval is not None and not approval.roles:
            raise Malformed(
                f"rules.toml: the [[sensitive]] rules for {operation} have no role in common",
                "nobody could approve it: name a role that all of them admit",
            )


def _refuse_loop(rules: Rules, start: str) -> None:
    """Refuse a role that is nested in itself: whoever held it would hold whatever anybody hangs into the loop."""
    path, todo = {start}, list(rules.roles[start].parents)
    while todo:
        role = todo.pop()
        if role == start:
            raise Malformed(f"rules.toml: role {start!r} is nested in itself", "break the loop")
        if role not in path and role in rules.roles:
            path.add(role)
            todo += rules.roles[role].parents


def _known(what: str, names: tuple[str, ...], known: Set[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Malformed(f"rules.toml: {what} names {unknown[0]!r}, which does not exist", "correct the name, or define it first")

"""Where separation of duties is held: which things an act is about, who did what on them before, the record of the act.

An act is judged inside its own transaction and kept in the same one, so of two acts that may not be one person's the second is
always seen. Who approves is judged when they sign and again when it is executed (operations/approvals/evidence.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection

from keyclave.core.errors import SelfConflict
from keyclave.identity.elevation import BREAK_GLASS
from keyclave.identity.roles import SHARE_HOLDER
from keyclave.policy.apart import Act, Apart, reason, stands_first, watched
from keyclave.store import key_rows
from keyclave.store.access import elevations, invitations
from keyclave.store.access.acts import MAKING, insert_acts, read_acts
from keyclave.store.access.shares import holds_share

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk
    from keyclave.operations.operation import Operation
    from keyclave.policy.engine import Compiled

ELSE = "another person does it: nobody is on both sides of a rule that keeps duties apart"
_SCHEDULED = ("destroy", "cancel-destruction")
OVER: dict[str, frozenset[str]] = {
    **dict.fromkeys(("key-create", "key-import"), frozenset(("key", "key-version"))),
    "key-update": frozenset(("key",)),
    **dict.fromkeys(
        ("credential-issue", "privilege-grant", "person-disable", "person-enable", "person-roles", "eligibility-create"),
        frozenset(("person",)),
    ),
    "share-holder-name": frozenset(("share", "person")),
    **dict.fromkeys(("invitation-create", "invitation-confirm", "invitation-revoke"), frozenset(("invitation", "person"))),
    **dict.fromkeys(
        ("elevate", "elevate-approved", "elevation-end", "break-glass", "break-glass-review"), frozenset(("elevation", "person"))
    ),
    **dict.fromkeys(
        ("approval-request", "approval-sign", "approval-deny", "approval-withdraw", "approval-execute"), frozenset(("approval",))
    ),
}
"""Which kinds of things an operation changes; those on a key and not listed change the key and versions of it."""
_OWN = ("elevate", "elevate-approved", "break-glass")
"""What a person does about themselves."""


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """An act, done or only supposed: what can be known of the things it is about. `ref` as the path names it, a key by its id."""

    tenant: str
    doer: str
    op: str
    names: tuple[str, ...]  # of the operation, and of what policy calls it
    ref: str = ""
    request: Any = None
    key: str = ""
    versions: tuple[int, ...] = ()
    detail: Mapping[str, str | int] = {}


def over(op: Operation) -> frozenset[str]:
    """Return the kinds of things that an operation changes, as rules can be over them."""
    if not op.changes:
        return frozenset()
    return OVER.get(op.name, frozenset(("key", "key-version")) if op.on_key else frozenset())


def bind(desk: Desk, op: Operation, attempt: Attempt) -> None:
    """Have a person's act judged and kept with its change, if it is one that rules can be over."""
    if not op.changes or not attempt.caller.standing.person or not over(op):
        return
    attempt.kept_as = names_of(op, attempt.action)
    if op.makes:  # nobody can have done anything on it before
        return

    def judge(transaction: Connection) -> None:
        check_doer(transaction, desk.access.revisions.of(attempt.caller.tenant), _deed(attempt))

    attempt.spends = (*attempt.spends, judge)


def names_of(op: Operation, action: str) -> tuple[str, ...]:
    """Return the names under which rules know an act: the operation's, and what policy calls it."""
    return tuple(dict.fromkeys((op.name, action or op.name)))


def keep(attempt: Attempt, transaction: Connection) -> None:
    """Keep what was done, with the change itself; that a key was made, its own row says."""
    if attempt.op in MAKING.values():
        return
    deed = _deed(attempt)
    found = things(transaction, deed)
    if getattr(attempt.request, "role", "") == BREAK_GLASS:  # who may break the glass stays sealed
        found.pop("person", None)
    done = [(name, kind, one) for name in deed.names for kind in sorted(OVER.get(name, found)) for one in found.get(kind, ())]
    insert_acts(transaction, deed.tenant, deed.doer, attempt.at, attempt.event, done)


def check_doer(conn: Connection, revision: Compiled, deed: Deed) -> None:
    """Refuse whoever did, on the same thing, what a rule keeps apart from this."""
    rules = _naming(revision.apart_then, deed.names)
    rule = barred(conn, rules, things(conn, deed), deed.tenant, deed.doer) if rules else None
    if rule is not None:
        raise SelfConflict(reason(rule), ELSE)


def approver_barred(
    conn: Connection, revision: Compiled, deeds: Iterable[Deed], approval: str, approver: str, roles: frozenset[str]
) -> str:
    """Return why somebody with these roles does not approve these acts: for what they hold, or did before; empty if nothing
    keeps them from it."""
    for deed in deeds:
        held = frozenset({SHARE_HOLDER}) if holds_share(conn, deed.tenant, approver) else frozenset()
        why = revision.barring("approval-sign", tuple(sorted(roles | held)))
        if not why and held:
            why = next((reason(rule) for name in deed.names for rule in revision.holder_approve.get(name, ())), "")
        if why:
            return why
        found = {"approval": (approval,)}
        rule = barred(conn, revision.apart_then.get("approval-sign", ()), found, deed.tenant, approver)
        if rule is None:
            rule = barred(conn, _naming(revision.apart_approve, deed.names), things(conn, deed), deed.tenant, approver)
        if rule is not None:
            return reason(rule)
    return ""


def barred(
    conn: Connection, rules: Iterable[Apart], found: Mapping[str, tuple[str, ...]], tenant: str, principal: str
) -> Apart | None:
    """Return the rule whose first side somebody is on, over one of these things; None if there is none."""
    return first_barring(histories(conn, rules, found, tenant), principal)


def histories(
    conn: Connection, rules: Iterable[Apart], found: Mapping[str, tuple[str, ...]], tenant: str
) -> list[tuple[Apart, str, list[Act]]]:
    """Return each rule with each thing that it is over, and what was done on that."""
    return [
        (rule, subject, read_acts(conn, tenant, rule.over, subject, watched((rule,))))
        for rule in rules
        if rule.over is not None
        for subject in found.get(rule.over, ())
    ]


def first_barring(read: Iterable[tuple[Apart, str, list[Act]]], principal: str) -> Apart | None:
    """Return the first of these rules that keeps somebody from what comes after."""
    return next((rule for rule, subject, acts in read if stands_first(rule, acts, subject, principal)), None)


def histories_on_key(
    conn: Connection, revision: Compiled, tenant: str, operation: str, key: str
) -> list[tuple[Apart, str, list[Act]]]:
    """Return what is read to say who is kept from an operation on a key, for questions about the policy."""
    deed = Deed(tenant=tenant, doer="", op=operation, names=(operation,), key=key)
    rules = revision.apart_then.get(operation, ())
    return histories(conn, rules, things(conn, deed), tenant) if rules else []


def things(conn: Connection, deed: Deed) -> dict[str, tuple[str, ...]]:
    """Return what an act is about, by kind. One on a key that names no version is about all that it could be about."""
    found: dict[str, tuple[str, ...]] = {}
    kinds = frozenset().union(*(OVER.get(name, frozenset()) for name in deed.names))
    if deed.key:
        found["key"] = (deed.key,)
        found["key-version"] = tuple(f"{deed.key}:{number}" for number in deed.versions or _versions(conn, deed))
    if "approval" in kinds:
        found["approval"] = (deed.ref,)
    if "share" in kinds:
        found["share"] = (str(getattr(deed.request, "share", "")),)
    for kind in ("invitation", "elevation"):
        named = str(deed.detail.get(kind, "") or (deed.ref if deed.op not in ("invitation-create", *_OWN) else ""))
        if kind in kinds and named:
            found[kind] = (named,)
    if "person" in kinds:
        person = _person(conn, deed, found)
        found |= {"person": (person,)} if person else {}
    return found


def _person(conn: Connection, deed: Deed, found: Mapping[str, tuple[str, ...]]) -> str:
    if deed.op in _OWN:
        return deed.doer
    named = getattr(deed.request, "principal", "")
    if named:
        return str(named)
    if "invitation" in found:
        invitation = invitations.read_invitation(conn, deed.tenant, found["invitation"][0])
        return "" if invitation is None else invitation.principal
    if "elevation" in found:
        elevation = elevations.read_elevation(conn, deed.tenant, found["elevation"][0])
        return "" if elevation is None else elevation.principal
    return deed.ref


def _versions(conn: Connection, deed: Deed) -> tuple[int, ...]:
    named = getattr(deed.request, "version", None)
    if named is not None:
        return (int(named),)
    key = key_rows.read_key(conn, deed.tenant, deed.key)
    if key is None:
        return ()
    return tuple(one.number for one in key.versions if one.scheduled or deed.op not in _SCHEDULED)


def _deed(attempt: Attempt) -> Deed:
    detail = attempt.detail or {}
    several = str(detail.get("versions", ""))
    numbers = tuple(int(number) for number in several.split(",")) if several else (attempt.version,) if attempt.version else ()
    return Deed(
        tenant=attempt.caller.tenant,
        doer=attempt.caller.principal,
        op=attempt.op,
        names=attempt.kept_as,
        ref=attempt.approval if attempt.op == "approval-request" else attempt.ref,
        request=attempt.request,
        key=attempt.key_id,
        versions=numbers,
        detail=detail,
    )


def _naming(rules: Mapping[str, tuple[Apart, ...]], names: Iterable[str]) -> tuple[Apart, ...]:
    return tuple(dict.fromkeys(rule for name in names for rule in rules.get(name, ())))

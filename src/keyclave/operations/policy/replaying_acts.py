"""Duties apart, replayed: whether a recorded act, or an approval of one, would be kept from its doer by other rules.

The log says who did what; on which things it was done stands in the table of acts, by the event. Only rules that differ between
the two bundles are looked at, over what had been done on the same thing before. Who held a share then, the namings say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.approvals.request import read_request
from keyclave.audit.event import Event
from keyclave.core.errors import KeyclaveError
from keyclave.operations.apart import things
from keyclave.operations.approvals.evidence import deeds_of
from keyclave.operations.people.enrolment import open_bytes
from keyclave.policy.apart import Apart, reason, stands_first, watched
from keyclave.policy.engine import Compiled
from keyclave.store.access import approvals, shares
from keyclave.store.access.acts import DoneAct, read_acts_before, read_done

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

PLACELESS = "rules that keep duties apart differ on it, and the record does not say on what it was done"
HELD_APART = "it was refused, for duties were kept apart: on what it would have been done is not recorded"
SIGN = "approval-sign"
_Rules = Mapping[str, tuple[Apart, ...]]


class ActsReplay:
    """Judges the acts of one tenant under the rules in which two bundles differ."""

    def __init__(self, desk: Desk, tenant: str, before: Compiled, after: Compiled) -> None:
        self._desk, self._tenant = desk, tenant
        self._then = (_differing(before.apart_then, after.apart_then), _differing(after.apart_then, before.apart_then))
        self._approve = (
            _differing(before.apart_approve, after.apart_approve),
            _differing(after.apart_approve, before.apart_approve),
        )
        self._holder = (
            _differing(before.holder_approve, after.holder_approve), _differing(after.holder_approve, before.holder_approve),
        )  # fmt: skip
        asked = any((*self._then, *self._approve))
        self._done: dict[str, list[DoneAct]] = desk.store.read(lambda conn: read_done(conn, tenant)) if asked else {}
        self._named = desk.store.read(lambda conn: shares.read_all(conn, tenant))
        self._starts: dict[tuple[str, int], list[int]] = {}
        self._holders: dict[tuple[str, int], list[str]] = {}
        for one in self._named:
            self._starts.setdefault((one.set_id, one.share), []).append(one.since)
            self._holders.setdefault((one.set_id, one.share), []).append(one.principal)

    def held_share(self, principal: str, at: int) -> bool:
        """Tell whether somebody held a share at a time, in microseconds."""
        for share, starts in self._starts.items():
            place = bisect_right(starts, at)
            if place and self._holders[share][place - 1] == principal:
                return True
        return False

    def concerns(self, event: Event) -> bool:
        """Tell whether rules over acts differ on an event."""
        names = {event.op, *(act.action for act in self._done.get(event.id, ()))}
        return any(name in rules for name in names for rules in self._then)

    def judge(self, event: Event) -> tuple[bool, bool, str] | str:
        """Return whether the rules of the one and of the other bundle keep the doer from it, and why; or why that is unknown."""
        acts = self._done.get(event.id, [])
        differs = self.concerns(event)
        if differs and not acts:
            return PLACELESS
        barred = [self._barring(acts, rules, event.actor) if differs else "" for rules in self._then]
        if event.op == SIGN and (any(self._approve) or any(self._holder)):
            try:
                signing = self._desk.store.read(lambda conn: self._signing(conn, event, acts))
            except KeyclaveError:
                return PLACELESS
            barred = [one or other for one, other in zip(barred, signing, strict=True)]
        return bool(barred[0]), bool(barred[1]), barred[1] or barred[0]

    def _barring(self, acts: list[DoneAct], rules: _Rules, actor: str) -> str:
        for act in acts:
            for rule in rules.get(act.action, ()):
                if rule.over == act.kind and self._stands_first(rule, act.kind, act.subject, act.number, actor):
                    return reason(rule)
        return ""

    def _stands_first(self, rule: Apart, kind: str, subject: str, number: int, actor: str) -> bool:
        before = self._desk.store.read(lambda conn: read_acts_before(conn, self._tenant, kind, subject, watched((rule,)), number))
        return stands_first(rule, before, subject, actor)

    def _signing(self, conn: Connection, event: Event, acts: list[DoneAct]) -> list[str]:
        """Return, for each of the two, which rule keeps the signer from approving what was asked for."""
        kept = approvals.read_approval(conn, self._tenant, event.approval)
        if kept is None:
            return ["", ""]
        request = read_request(open_bytes(self._desk, kept.tenant, kept.id, kept.canonical))
        number = min((act.number for act in acts), default=2**62)
        held = self.held_share(event.actor, event.at)
        found = ["", ""]
        for deed in deeds_of(self._desk, request):
            about = things(conn, deed)
            for side, rules in enumerate(self._approve):
                for rule in (rule for name in deed.names for rule in rules.get(name, ())):
                    for subject in about.get(rule.over or "", ()):
                        before = read_acts_before(conn, self._tenant, rule.over or "", subject, watched((rule,)), number)
                        if stands_first(rule, before, subject, event.actor):
                            found[side] = found[side] or reason(rule)
            for side, rules in enumerate(self._holder):
                if held:
                    found[side] = found[side] or next((reason(r) for name in deed.names for r in rules.get(name, ())), "")
        return found


def _differing(these: _Rules, those: _Rules) -> dict[str, tuple[Apart, ...]]:
    """Return the rules that only one bundle has, by the act that they keep somebody from."""
    only = {name: tuple(rule for rule in rules if rule not in those.get(name, ())) for name, rules in these.items()}
    return {name: rules for name, rules in only.items() if rules}

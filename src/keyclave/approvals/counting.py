"""Who counts: the rules under which signatures make an approval. Plain values in, plain values out.

A signature counts when nothing that its approver did before keeps them from approving (above all, having asked), they are
enabled, sign with what is sure enough, and hold a role that *every* rule asks for: the one at the time of the request, and the
one in force now. So a rule that became stricter holds for what is open, and one that became looser changes nothing. A rule that
nobody can meet (no role, no count) is never met: no factor applicable means refused.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from keyclave.approvals.request import Rule
from keyclave.core.clock import MICROSECONDS

_HOUR = 3600 * MICROSECONDS
_ADVICE = {
    1: "enrol a passkey",
    2: "enrol a passkey, or a key",
    3: "sign with a passkey that stays on one device, such as a security key; one that is synced to others proves less",
}


class Approver(msgspec.Struct, frozen=True, kw_only=True):
    """One who signed, as they stand now. `roles` with everything they are nested in; `aal` of the authenticator that signed.

    `apart`: why what they did before keeps them from approving; empty if nothing does."""

    name: str
    roles: frozenset[str]
    enabled: bool
    authenticator_live: bool
    aal: int
    signature_holds: bool
    apart: str


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """`counted` are distinct names; `not_counted` says of the others why. `enough` once `needed` are counted."""

    needed: int
    counted: tuple[str, ...]
    not_counted: tuple[tuple[str, str], ...]

    @property
    def enough(self) -> bool:
        """Tell whether the approval stands."""
        return self.needed >= 1 and len(self.counted) >= self.needed


def why_not(approver: Approver, rules: Iterable[Rule]) -> str:
    """Return why an approver does not count, empty if they do."""
    if approver.apart:
        return approver.apart
    if not approver.enabled:
        return "disabled"
    if not approver.authenticator_live:
        return "the authenticator was revoked"
    for rule in rules:
        if approver.aal < rule.assurance:
            asked, advice = rule.assurance, _ADVICE[rule.assurance]
            return f"the authenticator proves assurance level {approver.aal}, and {asked} is asked: {advice}"
        if not approver.roles.intersection(rule.roles):
            return "holds none of the roles " + (", ".join(rule.roles) or "(the rule names none)")
    return "" if approver.signature_holds else "the signature does not verify"


def tally(approvers: Iterable[Approver], rules: tuple[Rule, ...]) -> Tally:
    """Count. Nobody counts twice."""
    counted: dict[str, None] = {}
    others: list[tuple[str, str]] = []
    for approver in approvers:
        why = why_not(approver, rules)
        if why:
            others.append((approver.name, why))
        else:
            counted[approver.name] = None
    return Tally(needed=needed(rules), counted=tuple(counted), not_counted=tuple(others))


def needed(rules: tuple[Rule, ...]) -> int:
    """Return how many must sign under all rules at once; 0 where one of them can be met by nobody."""
    if not rules or any(rule.count < 1 or not rule.roles for rule in rules):
        return 0
    return max(rule.count for rule in rules)


def ends_at(requested_at: int, rules: Iterable[Rule]) -> int:
    """Return when the window closes: the shortest of all rules, counted from the request."""
    return requested_at + min((rule.hours for rule in rules), default=0) * _HOUR

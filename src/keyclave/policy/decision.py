"""What policy answers: one frozen record that says whether, why, and under which conditions still to be checked."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class ApprovalRule(msgspec.Struct, frozen=True, kw_only=True):
    """How many people must sign a sensitive operation before it is done, and who counts.

    `count` distinct approvers, the requester never among them, each holding one of `roles` (or a role nested in one);
    `hours` from the request to the end of its window. `assurance`: of the authenticators that sign, and of whoever asks.
    """

    count: int
    roles: tuple[str, ...]
    hours: int = 24
    assurance: int = 1


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """One right that permits the operation.

    `context` maps names of the encryption context to permitted values (`("*",)`: must be present). `grant` is the id of the grant
    it comes from, `counted` when its uses are counted. `until` is when it ends (microseconds; 0: with its caller). With `exact`,
    the encryption context has the names of `context` and no other. `tags`: keyed hashes by name; where there are any, the context
    holds under one of these names the value that has the hash.
    """

    context: Mapping[str, tuple[str, ...]] = {}
    counted: bool = False
    exact: bool = False
    grant: str = ""
    policy: str = ""
    tags: Mapping[str, str] = {}
    until: int = 0

    def admits(self, context: Mapping[str, str]) -> bool:
        """Tell whether an encryption context meets the constraints."""
        return not self.unmet(context)

    def unmet(self, context: Mapping[str, str]) -> str:
        """Return a name of the constraints that an encryption context does not meet; empty if it meets them all."""
        for name, values in self.context.items():
            value = context.get(name)
            if value is None or (value not in values and "*" not in values):
                return name
        if self.exact and len(context) > len(self.context):
            return min(context.keys() - self.context.keys())
        return ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Allowed or not. `policies` names what decided, as the log shows it; `why` and `hint` are for the caller when refused.

    When allowed, one of `alternatives` must admit the encryption context (none listed = no condition). `approval` and
    `fresh_seconds` (a proof of presence no older than that) are conditions that operations hold before anything is done.
    """

    allowed: bool
    alternatives: tuple[Alternative, ...] = ()
    approval: ApprovalRule | None = None
    fresh_seconds: int = 0
    hint: str = ""
    policies: str = ""
    why: str = ""

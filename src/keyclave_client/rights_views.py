"""What the server says about grants, roles for a while, and alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Grant:
    """A right to use keys. `status`: live, expired, used-up, retired, revoked; `remaining`: uses left, None: not counted."""

    id: str
    grantee: str
    status: str
    operations: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exact: bool = False
    purposes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    delegate: bool = False
    parent: str | None = None
    uses: int | None = None
    remaining: int | None = None
    created_at: str | None = None
    created_by: str | None = None
    expires_at: str | None = None
    ended_at: str | None = None
    ended_by: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Who may take on which role, until when. `keys`, `operations` and `reference` are of break-glass."""

    id: str
    principal: str
    role: str
    keys: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    reference: bool = False
    created_at: str | None = None
    created_by: str | None = None
    expires_at: str | None = None
    revoked_at: str | None = None
    revoked_by: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Elevation:
    """A role that was taken on. `status`: running, ended, to-review, overdue, reviewed."""

    id: str
    principal: str
    role: str
    status: str
    reason: str | None = None
    started_at: str | None = None
    ends_at: str | None = None
    seconds_left: int = 0
    ended_at: str | None = None
    ended_by: str | None = None
    keys: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    review_due_at: str | None = None
    reviewed_at: str | None = None
    reviewed_by: str | None = None
    verdict: str | None = None
    notes: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """That the glass was broken, or that its review is overdue."""

    id: str
    kind: str
    elevation: str
    principal: str
    reason: str | None = None
    raised_at: str | None = None
    review_due_at: str | None = None
    acknowledged_at: str | None = None
    event: str | None = None

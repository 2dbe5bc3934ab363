"""A role for a while: who may take it on (eligibility), and who has (elevation). Pure records; operations give and end them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from keyclave.identity.scope import ANY

BREAK_GLASS = "break-glass"


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What a break-glass elevation reaches.

    `keys`: ids, names, or names ending in `*`. `tags`: keyed hashes of the reference (a patient, an encounter), by the name of
    the encryption context that may hold it; where there are any, one of the names must hold the reference.
    """

    keys: tuple[str, ...]
    operations: tuple[str, ...]
    tags: Mapping[str, str] = {}

    def permits(self, operation: str, key_id: str, key_name: str) -> bool:
        """Tell whether it reaches an operation on a key; the encryption context is still to be checked."""
        return operation in self.operations and any(
            pattern in (key_id, key_name) or (pattern.endswith(ANY) and key_name.startswith(pattern[:-1]))
            for pattern in self.keys
        )


class Eligibility(msgspec.Struct, frozen=True, kw_only=True):
    """Who may take on which role, until when. Times in microseconds.

    Of break-glass the store keeps no name: `principal` is known only to whoever opened the sealed part. `reach` and `reference`
    (whether a reference must be given) are of break-glass.
    """

    id: str
    tenant: str
    principal: str
    role: str
    created_at: int
    created_by: str
    expires_at: int
    reach: Reach | None = None
    reference: bool = True
    revoked_at: int | None = None
    revoked_by: str = ""

    def live(self, now: int) -> bool:
        """Tell whether it may be used."""
        return self.revoked_at is None and now < self.expires_at


class Elevation(msgspec.Struct, frozen=True, kw_only=True):
    """A role that was taken on. It belongs to one credential or session and ends by itself.

    `duty` is the duty that `role` belongs to. `review_due_at`, `reviewed_…`, `verdict` and `notes` are of break-glass.
    """

    id: str
    tenant: str
    principal: str
    credential: str
    role: str
    duty: str
    eligibility: str
    reason: str
    started_at: int
    ends_at: int
    alarmed_at: int | None = None
    ended_at: int | None = None
    ended_by: str = ""
    notes: str = ""
    reach: Reach | None = None
    review_due_at: int | None = None
    reviewed_at: int | None = None
    reviewed_by: str = ""
    verdict: str = ""

    def live(self, now: int) -> bool:
        """Tell whether it gives its role."""
        return self.ended_at is None and now < self.ends_at


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One person's notice that the glass was broken, or that its review is overdue."""

    id: str
    tenant: str
    recipient: str
    kind: str
    elevation: str
    raised_at: int
    acknowledged_at: int | None = None

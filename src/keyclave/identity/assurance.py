"""How long a session may last, by assurance level: SP 800-63B-4 sections 2.2.3 and 2.3.3. Configuration may only shorten."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.core.clock import MICROSECONDS

FRESH = 5 * 60 * MICROSECONDS  # how old a proof of presence may be where a fresh one is asked
ENROLLING_SECONDS = 15 * 60  # of a session that is good for enrolling alone


class SessionLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hours from login to the end, and minutes without a request, for each level. Level 1 (single sign-on that proves no more)
    lasts as long as level 2."""

    aal2_hours: Annotated[int, Meta(ge=1, le=24)] = 24
    aal2_idle_minutes: Annotated[int, Meta(ge=1, le=60)] = 60
    aal3_hours: Annotated[int, Meta(ge=1, le=12)] = 12
    aal3_idle_minutes: Annotated[int, Meta(ge=1, le=15)] = 15

    def ends(self, aal: int, now: int) -> int:
        """Return when a session of this level that begins now must end, in microseconds."""
        return now + (self.aal3_hours if aal >= 3 else self.aal2_hours) * 3600 * MICROSECONDS

    def idle_seconds(self, aal: int) -> int:
        """Return how long a session of this level lives without a request."""
        return (self.aal3_idle_minutes if aal >= 3 else self.aal2_idle_minutes) * 60

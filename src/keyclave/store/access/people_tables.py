"""Tables of people: principals' standing, authenticators, invitations, eligibilities."""

from __future__ import annotations

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ()

"""Tables of policy revisions: what a tenant's policy was, from when, by whose decision."""

from __future__ import annotations

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ()

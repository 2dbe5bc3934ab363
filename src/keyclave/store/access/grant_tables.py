"""Tables of grants, elevations and their reviews."""

from __future__ import annotations

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ()

"""Tables of requests for approval and what each approver signed."""

from __future__ import annotations

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ()

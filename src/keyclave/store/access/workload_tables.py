"""Tables of workloads: the internal authority, certificates, enrolment tokens, revocations."""

from __future__ import annotations

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ()

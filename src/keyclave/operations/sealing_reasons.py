"""Why a server is sealed: what whoever finds it so wants to know first."""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """The last thing that left it without a key."""

    STARTED = "started"  # it was started, and not unsealed since
    SEALED = "sealed"  # somebody sealed it
    LOST = "lost"  # every process of it that held the root key ended at once: no other place has it
    BEHIND = "behind"  # it missed what other nodes changed, and let go of all it knew

"""Names of principals: stable, never used again, and of one source. A name from elsewhere carries its kind before a colon."""

from __future__ import annotations

import re

from keyclave.core.errors import Malformed

KINDS = ("spiffe", "cert", "oidc", "k8s", "local")
RESERVED = frozenset({"nobody", "share-holder", "ceremony", "clock"})  # spec/events.md gives them a meaning
_FOREIGN = re.compile(rf"^({'|'.join(KINDS)}):", re.IGNORECASE)


def kind_of(name: str) -> str:
    """Return the kind that a name carries, or an empty text for a local name."""
    found = _FOREIGN.match(name)
    return found[1].lower() if found else ""


def check_local(name: str) -> None:
    """Refuse a name that only another source may give, or that the server keeps for itself: two sources never mean one person."""
    if name in RESERVED:
        raise Malformed("this name is kept for the server's own events", "choose another name")
    kind = kind_of(name)
    if kind:
        raise Malformed(f"names that begin with {kind}: are given by that source alone", "choose a name without it")

"""How this node is, for those who send requests to it: whether it lives, and whether to send it any.

Nothing here tells a stranger more than its port does. A node that is not ready still answers what it is asked.
"""

from __future__ import annotations

import msgspec

from keyclave.operations.desk import Desk


class Health(msgspec.Struct):
    """`ready`, or why not: the first of broken, sealed, draining, store, clock, lease that holds."""

    status: str


def readiness(desk: Desk) -> Health:
    """Return whether requests should be sent here."""
    if desk.module.fault():
        return Health("broken")
    if desk.vault.sealed:
        return Health("sealed")
    if desk.draining:
        return Health("draining")
    if desk.store.failing:
        return Health("store")
    membership = desk.membership
    if membership is not None and membership.fault:
        return Health("clock")
    if membership is not None and not membership.lease.live:
        return Health("lease")
    return Health("ready")


def can_decrypt(desk: Desk) -> Health:
    """Return `ready`; or `stale` while this node decrypts with keys that allow it, for the database is away; or why not."""
    found = readiness(desk)
    if found.status == "lease" and desk.stale is not None and desk.stale.open():
        return Health("stale")
    return found

"""Grants: a right to use keys that one principal gives another, bounded on every side, and what "narrower" means between two.

Pure: the store keeps grants, operations give and end them. A grant only ever adds a right to use keys; what a duty may never do
it cannot give.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import msgspec

from keyclave.identity.scope import ANY

PURPOSES = ("treatment", "payment", "operations", "research", "break-glass")
"""Purposes of use that a caller may declare (after 45 CFR 164.506(c) and 164.512(i); break-glass is ours)."""

DEEPEST = 8
"""Grants from the first to the last of a chain: a use spends each counted one of them, so a chain has an end."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One grant, as the store keeps it. Times in microseconds.

    `keys`: ids, names, or names ending in `*`. `context` maps a name of the encryption context to the values it may have, or to
    ("*",) for "must be present"; with `exact`, the context has these names and no other. `purposes` and `networks`: one of them
    must be declared, or hold, where any is listed. `uses`: how many uses it began with, None for any number; `counted`: whether
    its uses or those of a grant above it are counted. `parent`: the grant it was made from, `depth` its place below the first.
    """

    id: str
    tenant: str
    grantee: str
    operations: tuple[str, ...]
    keys: tuple[str, ...]
    created_at: int
    created_by: str
    expires_at: int
    context: Mapping[str, tuple[str, ...]] = {}
    counted: bool = False
    delegate: bool = False
    depth: int = 1
    end: str = ""
    ended_at: int | None = None
    ended_by: str = ""
    exact: bool = False
    networks: tuple[str, ...] = ()
    parent: str = ""
    purposes: tuple[str, ...] = ()
    remaining: int | None = None
    uses: int | None = None

    def live(self, now: int) -> bool:
        """Tell whether it is neither ended, expired nor used up."""
        return self.ended_at is None and now < self.expires_at and self.remaining != 0

    def names_key(self, key_id: str, key_name: str) -> bool:
        """Tell whether it reaches this key."""
        return any(_names(pattern, key_id, key_name) for pattern in self.keys)


def matching(
    grants: tuple[Grant, ...], op: str, key_id: str, key_name: str, networks: Set[str], purpose: str, now: int
) -> tuple[Grant, ...]:
    """Return the grants that permit `op` on the key now, uncounted ones first; the encryption context is still to be checked."""
    found = [
        grant
        for grant in grants
        if op in grant.operations
        and grant.live(now)
        and grant.names_key(key_id, key_name)
        and (not grant.purposes or purpose in grant.purposes)
        and (not grant.networks or not networks.isdisjoint(grant.networks))
    ]
    found.sort(key=lambda grant: (grant.counted, grant.id))
    return tuple(found)


def wider(child: Grant, parent: Grant) -> str:
    """Say in which respect `child` reaches further than `parent`, or nothing if it does in none."""
    if child.tenant != parent.tenant:
        return "tenant"
    if not set(child.operations) <= set(parent.operations):
        return "operations"
    if not all(any(_covers(above, pattern) for above in parent.keys) for pattern in child.keys):
        return "keys"
    if not _context_within(child, parent):
        return "context"
    if not _listed_within(child.purposes, parent.purposes):
        return "purposes"
    if not _listed_within(child.networks, parent.networks):
        return "networks"
    if child.expires_at > parent.expires_at:
        return "expiry"
    if parent.remaining is not None and (child.uses or 0) > parent.remaining:
        return "uses"
    if parent.counted and not child.counted:
        return "uses"
    if child.delegate and not parent.delegate:
        return "delegation"
    return ""


def _names(pattern: str, key_id: str, key_name: str) -> bool:
    return pattern in (key_id, key_name) or (pattern.endswith(ANY) and key_name.startswith(pattern[:-1]))


def _covers(above: str, pattern: str) -> bool:
    """Tell whether every key that `pattern` names is named by `above` too.

    A key's id says nothing of its name: below a prefix, only names are known to lie within it.
    """
    if above in (ANY, pattern):
        return True
    if not above.endswith(ANY):
        return False
    if pattern.endswith(ANY):
        return pattern[:-1].startswith(above[:-1])
    return not pattern.startswith("key_") and pattern.startswith(above[:-1])


def _context_within(child: Grant, parent: Grant) -> bool:
    if parent.exact and not (child.exact and child.context.keys() == parent.context.keys()):
        return False
    for name, values in parent.context.items():
        own = child.context.get(name)
        if own is None or not (ANY in values or set(own) <= set(values)):
            return False
    return True


def _listed_within(own: tuple[str, ...], above: tuple[str, ...]) -> bool:
    """An empty list permits everything, so below a list there must be one."""
    return not above or (bool(own) and set(own) <= set(above))

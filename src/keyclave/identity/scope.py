"""What an application's credential reaches: operations x keys x constraints on the encryption context (R29).

Everything not named is refused. Keys are named by id, by name, or by a name ending in `*`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.core.errors import Malformed

ANY = "*"

KeyPattern = Annotated[str, Meta(min_length=1, max_length=limits.NAME, pattern=r"^[A-Za-z0-9._:-]*\*?$(?!\n)")]
ContextName = Annotated[str, Meta(min_length=1, max_length=limits.CONTEXT_NAME, pattern=r"^[!-~]+$(?!\n)")]
ContextValue = Annotated[str, Meta(max_length=limits.CONTEXT_VALUE, pattern=limits.PRINTABLE)]


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As the caller states it and the store keeps it.

    `context` maps a name to the values it may have, or to ["*"] for "must be present". A name that is not listed is free.
    """

    operations: Annotated[tuple[Annotated[str, Meta(max_length=40)], ...], Meta(max_length=64)] = ()
    keys: Annotated[tuple[KeyPattern, ...], Meta(max_length=128)] = ()
    context: Annotated[dict[ContextName, tuple[ContextValue, ...]], Meta(max_length=limits.CONTEXT_ENTRIES)] = {}

    def check(self, known_operations: frozenset[str]) -> None:
        """Refuse a scope that names what does not exist, or is too large to evaluate at once."""
        if not self.operations or not self.keys:
            raise Malformed("a scope names at least one operation and one key", "use key names, key ids, or a name ending in *")
        if not known_operations.issuperset(self.operations):
            raise Malformed("the scope names operations that do not exist", f"known: {', '.join(sorted(known_operations))}")
        if len(self.keys) > limits.NAME or sum(len(v) for v in self.context.values()) > limits.BATCH:
            raise Malformed("the scope is too large", "issue one credential for each group of keys or values")
        if any(not v for v in self.context.values()):
            raise Malformed("a context constraint without values permits nothing", 'list its values, or ["*"]')

    def names_key(self, key_id: str, key_name: str) -> bool:
        """Tell whether the scope reaches this key."""
        for pattern in self.keys:
            if pattern in (key_id, key_name) or (pattern.endswith(ANY) and key_name.startswith(pattern[:-1])):
                return True
        return False

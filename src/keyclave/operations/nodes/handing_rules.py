"""To which nodes the root key may be handed on: what the configuration says, and the nonces that are out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class HandingOn:
    """Whose certificates are believed to be of nodes: names as the authority of that label gives them. And nonces given out."""

    authority: str
    names: frozenset[str]
    nonces: dict[str, tuple[bytes, int]] = field(default_factory=dict)

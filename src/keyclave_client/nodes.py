"""The nodes that serve one store: which there are, how they stand, and taking one out of service."""

from __future__ import annotations

from dataclasses import dataclass

from keyclave_client.answers import decode
from keyclave_client.transport import Request, Transport


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `status` is serving, sealed, draining, silent or left; `lease_seconds` what is left of its lease; `behind` how
    many changes of others it has not applied; `skew_seconds` its clock before the database's; `stale_seconds` for how long
    after its lease it may decrypt while the database is away."""

    id: str
    address: str
    version: str
    schema: str
    started_at: str
    seen_at: str
    status: str
    lease_seconds: float
    behind: int
    skew_seconds: float
    sequencer: bool
    this: bool
    stale_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeList:
    """The nodes, in the order of their starts."""

    nodes: list[Node]
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Draining:
    """The node that was asked, and whether it drains now."""

    node: str
    draining: bool
    event: str | None = None


class Nodes:
    """What operators see and do of nodes."""

    _transport: Transport

    def list_nodes(self) -> list[Node]:
        """Return every node of the last days."""
        return decode(NodeList, self._transport.json(Request("GET", "/v1/nodes"))).nodes

    def drain(self, *, draining: bool = True) -> Draining:
        """Have the node that answers say that it is not ready, while it goes on serving; `draining` false takes it back."""
        return decode(Draining, self._transport.json(Request("POST", "/v1/node-drain", {"draining": draining})))

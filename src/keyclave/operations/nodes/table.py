"""The operations on nodes, as data."""

from __future__ import annotations

from keyclave.operations.nodes.drain import DrainAnswer, DrainRequest, drain
from keyclave.operations.nodes.list_nodes import NodeList, list_nodes
from keyclave.operations.operation import Operation, always

OPERATIONS: list[Operation] = [
    Operation(
        "node-list", "GET", "/v1/nodes", None, NodeList, "List the nodes that serve this store.", list_nodes, needs_root=False,
        slow=always,
    ),
    Operation(
        "node-drain", "POST", "/v1/node-drain", DrainRequest, DrainAnswer,
        "Have this node say that it is not ready, while it goes on serving.", drain, needs_root=False,
    ),
]  # fmt: skip

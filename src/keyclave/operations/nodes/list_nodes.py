"""node-list: every node on this store, how far it has followed the others, and whether it can serve."""

from __future__ import annotations

from typing import Any

import msgspec

from keyclave import __version__
from keyclave.core.clock import to_text
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer
from keyclave.operations.tenants import check_home
from keyclave.store import nodes
from keyclave.store.changes import last_change
from keyclave.store.versions import revision

SEQUENCER = "sequencer"


class NodeView(msgspec.Struct, kw_only=True):
    """One node. `lease_seconds` is what is left of its row's lease by the database's clock; `behind` counts changes of others
    that it has not applied; `skew_seconds` is its clock before the database's; `stale_seconds` for how long after its lease it
    may decrypt while the database is away."""

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
    stale_seconds: float
    sequencer: bool
    this: bool


class NodeList(Answer, kw_only=True):
    """All nodes of the last days, in the order of their starts; of a store that one process has to itself, that one."""

    nodes: list[NodeView]


def list_nodes(desk: Desk, attempt: Attempt, _key: None, _query: Any) -> NodeList:
    """Read the list."""
    check_home(desk, attempt.caller)
    if desk.membership is None:
        return NodeList(nodes=[_alone(desk)])
    here = desk.membership.node
    now, change, rows, leader = desk.store.read(
        lambda conn: (nodes.database_time(conn), last_change(conn), nodes.read_nodes(conn), nodes.lease_holder(conn, SEQUENCER))
    )
    return NodeList(
        nodes=[
            NodeView(
                id=row.id, address=row.address, version=row.version, schema=row.schema, started_at=to_text(row.started_at),
                seen_at=to_text(row.seen_at), status=_status(row, now), lease_seconds=max(0, row.lease_until - now) / 1e6,
                behind=max(0, change - row.applied), skew_seconds=row.skew / 1e6, stale_seconds=row.stale / 1e6,
                sequencer=row.id == leader, this=row.id == here,
            )
            for row in rows
        ]
    )  # fmt: skip


def _status(row: nodes.Node, now: int) -> str:
    """Return left, silent, draining, sealed or serving."""
    if row.left_at is not None:
        return "left"
    if row.lease_until <= now:
        return "silent"
    if row.draining:
        return "draining"
    return "sealed" if row.sealed else "serving"


def _alone(desk: Desk) -> NodeView:
    status = "draining" if desk.draining else "sealed" if desk.vault.sealed else "serving"
    now = to_text(desk.clock.now())
    return NodeView(
        id=desk.store.node, address="", version=__version__, schema=revision(), started_at=now, seen_at=now, status=status,
        lease_seconds=0, behind=0, skew_seconds=0, stale_seconds=0, sequencer=True, this=True,
    )  # fmt: skip

"""node-drain: this node goes on serving and says that it is not ready, so that a balancer sends its requests elsewhere.

Of a server with several workers all do: a balancer does not know which of them it asks.
"""

from __future__ import annotations

from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.tenants import check_home


class DrainRequest(Request, kw_only=True):
    """`draining` false takes it back."""

    draining: bool = True


class DrainAnswer(Answer, kw_only=True):
    """The node that was asked, and what holds there now."""

    node: str
    draining: bool


def drain(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: DrainRequest) -> DrainAnswer:
    """Begin to drain the node that is asked, or stop."""
    check_home(desk, attempt.caller)
    attempt.detail = {"draining": int(request.draining), "node": desk.store.node}
    desk.draining = request.draining
    desk.siblings.drain_others(draining=request.draining)
    return DrainAnswer(node=desk.store.node, draining=request.draining)

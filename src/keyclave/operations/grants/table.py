"""The rows of grants in the table of operations."""

from __future__ import annotations

from keyclave.identity.peer import Plane
from keyclave.operations.grants import end, give, view
from keyclave.operations.operation import Operation, always

OPERATIONS: list[Operation] = [
    Operation(
        "grant-create", "POST", "/v1/grants", give.GrantRequest, view.GrantView,
        "Grant an application a right to use keys, or give part of one's own grant on.", give.create_grant,
        changes=True, status=201, plane=Plane.BOTH,
    ),
    Operation(
        "grant-retire", "POST", "/v1/grants/{grant}/retire", end.EndRequest, view.GrantView,
        "Hand back a grant one holds; what was given on from it ends too.", end.retire,
        changes=True, needs_root=False, plane=Plane.BOTH,
    ),
    Operation(
        "grant-revoke", "POST", "/v1/grants/{grant}/revoke", end.EndRequest, view.GrantView,
        "Take a grant away, with every grant made from it: once answered, none permits anything.", end.revoke,
        changes=True, needs_root=False, plane=Plane.BOTH,
    ),
    Operation(
        "grant-list", "GET", "/v1/grants", None, view.GrantPage, "List grants.", view.list_grants,
        query=view.GrantQuery, needs_root=False, slow=always, plane=Plane.BOTH,
    ),
    Operation(
        "grant-read", "GET", "/v1/grants/{grant}", None, view.GrantView, "Describe a grant.", view.read_grant,
        needs_root=False, plane=Plane.BOTH,
    ),
]  # fmt: skip

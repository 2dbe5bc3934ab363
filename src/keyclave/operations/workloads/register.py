"""workload-register, -list, -update, -disable: which workloads may call, and what each may do. Operators decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import to_text
from keyclave.core.errors import Malformed, Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.identity.scope import Scope
from keyclave.identity.spiffe import LONGEST, check_pattern
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.policy.duties import SCOPED
from keyclave.store.access import credentials
from keyclave.store.access import workloads as rows

WorkloadName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST,
        pattern=r"^(spiffe://|cert:)[A-Za-z0-9._:/-]+\*?$(?!\n)",
        description="a SPIFFE ID, one with /* behind it for all below, or cert:<authority>:<subject>",
    ),
]


class RegisterRequest(Request, kw_only=True):
    """The workload's name, as its certificate gives it, and what it may do."""

    name: WorkloadName
    scope: Scope


class WorkloadUpdate(Request, kw_only=True):
    """What is to be true of it: another scope, or enabled again; and why."""

    scope: Scope | None = None
    enabled: bool | None = None
    reason: Reason = ""


class WorkloadView(Answer, kw_only=True):
    """A workload that may call."""

    id: str
    name: str
    scope: Scope
    created_at: str
    created_by: str
    disabled_at: str | None


class WorkloadQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of workloads."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100


class WorkloadPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    workloads: list[WorkloadView]
    next: str | None


def register(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: RegisterRequest
) -> Callable[[Connection], WorkloadView]:
    """Register a workload: from now on its certificate opens what the scope names, and nothing else."""
    if request.name.startswith("spiffe://"):
        check_pattern(request.name)
    elif request.name.endswith("*") or len(request.name.split(":", 2)) != 3:
        raise Malformed("this is no name of a certificate", "write cert:<authority>:<subject>, as the server shows it")
    request.scope.check(SCOPED)
    workload = rows.Workload(
        id=to_id("wkl", desk.module.random(RAW)),
        tenant=attempt.caller.tenant,
        name=request.name,
        scope=request.scope,
        created_at=attempt.at,
        created_by=attempt.caller.principal,
    )
    attempt.detail = {"name": workload.name, "workload": workload.id}
    attempt.touches = (workload.id,)  # whoever was covered by a pattern may have a name of their own from now on

    def change(transaction: Connection) -> WorkloadView:
        rows.insert_workload(transaction, workload)
        return WorkloadView(**_fields(workload))

    return change


def list_workloads(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: WorkloadQuery) -> WorkloadPage:
    """List workloads in the order of their ids."""
    tenant, limit = attempt.caller.tenant, query.limit
    found = desk.store.read(lambda conn: rows.list_workloads(conn, tenant, query.cursor, limit + 1))
    page = found[:limit]
    return WorkloadPage(
        workloads=[WorkloadView(**_fields(one)) for one in page], next=page[-1].id if len(found) > limit else None
    )


def update(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: WorkloadUpdate) -> Callable[[Connection], WorkloadView]:
    """Change a workload's scope, or disable it: when this is answered, its certificates and bound tokens open nothing."""
    tenant, ref = attempt.caller.tenant, attempt.ref
    found = desk.store.read(lambda conn: rows.find_workload(conn, tenant, ref))
    if found is None:
        raise Unknown("no such workload", "see `keyclave workload list`")
    scope = found.scope if request.scope is None else request.scope
    scope.check(SCOPED)
    disabled = found.disabled_at
    if request.enabled is not None:
        disabled = None if request.enabled else (disabled or attempt.at)
    now = msgspec.structs.replace(found, scope=scope, disabled_at=disabled)
    ended = held_by(desk, found) if now != found else []
    attempt.reason, attempt.touches = request.reason, (ref, *desk.callers.certified.of_workload(ref), *ended)
    attempt.detail = {"enabled": int(disabled is None), "name": found.name, "workload": ref}

    def change(transaction: Connection) -> WorkloadView:
        rows.update_workload(transaction, now)
        for credential in ended:
            credentials.revoke_credential(transaction, credential, attempt.at)
        return WorkloadView(**_fields(now))

    return change


def held_by(desk: Desk, workload: rows.Workload) -> list[str]:
    """Return the ids of live credentials that were issued to the workload's certificates."""
    prefix = workload.name.endswith("/*")
    name = workload.name[:-1] if prefix else workload.name
    return desk.store.read(lambda conn: rows.held_by(conn, workload.tenant, name, prefix))


def _fields(one: rows.Workload) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "scope": one.scope,
        "created_at": to_text(one.created_at),
        "created_by": one.created_by,
        "disabled_at": None if one.disabled_at is None else to_text(one.disabled_at),
    }

"""Every way to come by a right on a key: duty and roles, a scope, a grant, an elevation, an eligibility."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from keyclave.identity.elevation import BREAK_GLASS
from keyclave.identity.roles import Role
from keyclave.operations.policy.standings import MOST_WORKLOADS, Tenancy, best_aal, subject_of, tenancy
from keyclave.policy.duties import DUTIES, SCOPED
from keyclave.policy.engine import Compiled
from keyclave.policy.reach import Subject
from keyclave.store.access import credentials, elevations, grants, workloads
from keyclave.store.access.reviews import PrincipalRow

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk

_MOST = 100_000


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may have a right. `by`: the scope, grant or elevation it would come from, empty for policies alone.
    `eligible`: only after taking a role on. `context`, `conditions` and `until` bound it further."""

    subject: Subject
    aal: int
    by: str = ""
    conditions: tuple[str, ...] = ()
    context: Mapping[str, tuple[str, ...]] = {}
    elevated: bool = False
    eligible: bool = False
    until: int = 0


class Candidates(msgspec.Struct, frozen=True):
    """All of them; `sealed` counts people who may break the glass, whose names are sealed."""

    all: list[Candidate]
    sealed: int


def candidates(desk: Desk, attempt: Attempt, action: str, key_id: str, key_name: str, revision: Compiled) -> Candidates:
    """Collect everybody whose duty, now or after taking a role on, has the operation at all."""
    here = tenancy(desk, attempt)
    tenant, at = attempt.caller.tenant, attempt.at

    def read(conn: Connection) -> Candidates:
        found = [*_by_duty(here, action)]
        if action in SCOPED:
            found += _by_scope(conn, tenant, at, action, key_id, key_name, here)
            found += _by_grant(conn, tenant, at, action, key_id, key_name)
        found += _by_elevation(conn, tenant, at, action, key_id, key_name, here)
        could, sealed = _by_eligibility(conn, tenant, at, action, here, revision)
        return Candidates([*found, *could], sealed)

    return desk.store.read(read)


def _by_duty(here: Tenancy, action: str) -> Iterator[Candidate]:
    for row in here.principals:
        if not row.disabled and row.duty in DUTIES[action] and (row.credentials or row.authenticators or not row.person):
            yield Candidate(subject=subject_of(row), aal=best_aal(row))


def _by_scope(
    conn: Connection, tenant: str, at: int, action: str, key_id: str, key_name: str, here: Tenancy
) -> Iterator[Candidate]:
    rows = {row.name: row for row in here.principals}
    scopes = [(one.id, one.principal, one.scope, one.expires_at) for one in credentials.live_credentials(conn, tenant, at)]
    for workload in workloads.list_workloads(conn, tenant, "", MOST_WORKLOADS):
        if workload.disabled_at is None:
            scopes.append((workload.id, workload.name, workload.scope, 0))
    for name, principal, scope, until in scopes:
        if scope is not None and action in scope.operations and (not key_id or scope.names_key(key_id, key_name)):
            row = rows.get(principal)
            subject = _workload(principal) if row is None else subject_of(row)
            yield Candidate(subject=subject, aal=1, by=f"scope of {name}", context=scope.context, until=until)


def _by_grant(conn: Connection, tenant: str, at: int, action: str, key_id: str, key_name: str) -> Iterator[Candidate]:
    for grant in grants.list_grants(conn, tenant, "", _MOST, now=at):
        if action in grant.operations and grant.names_key(key_id, key_name):
            conditions = []
            if grant.purposes:
                conditions.append(f"purpose {' or '.join(grant.purposes)}")
            if grant.networks:
                conditions.append(f"networks {' or '.join(grant.networks)}")
            if grant.remaining is not None:
                conditions.append(f"{grant.remaining} uses left")
            if grant.exact:
                conditions.append("no other context")
            yield Candidate(
                subject=_workload(grant.grantee),
                aal=1,
                by=f"grant {grant.id}",
                conditions=tuple(conditions),
                context=grant.context,
                until=grant.expires_at,
            )


def _by_elevation(
    conn: Connection, tenant: str, at: int, action: str, key_id: str, key_name: str, here: Tenancy
) -> Iterator[Candidate]:
    rows = {row.name: row for row in here.principals}
    for one in elevations.list_elevations(conn, tenant, "", _MOST):
        row = rows.get(one.principal)
        if one.ended_at is not None or one.ends_at <= at or row is None or row.disabled:
            continue
        if one.role == BREAK_GLASS and (one.reach is None or not one.reach.permits(action, key_id, key_name)):
            continue
        subject = _raised(row, one.role, Role(one.duty))
        if subject.duty in DUTIES[action]:
            yield Candidate(subject=subject, aal=best_aal(row), by=f"elevation {one.id}", elevated=True, until=one.ends_at)


def _by_eligibility(
    conn: Connection, tenant: str, at: int, action: str, here: Tenancy, revision: Compiled
) -> tuple[list[Candidate], int]:
    rows = {row.name: row for row in here.principals}
    found, sealed, rules = [], 0, revision.rules
    for one, hidden in elevations.list_eligibilities(conn, tenant, "", _MOST):
        if one.revoked_at is not None or one.expires_at <= at:
            continue
        if hidden is not None:
            sealed += Role.BREAK_GLASS in DUTIES[action]
            continue
        row = rows.get(one.principal)
        duty = rules.roles[one.role].duty if one.role in rules.roles else _duty(one.role)
        if row is None or row.disabled or duty is None or duty not in DUTIES[action]:
            continue
        waits = ("after approval",) if one.role in rules.elevation.approval_roles else ()
        found.append(
            Candidate(
                subject=_raised(row, one.role, duty), aal=best_aal(row), by=f"eligible for {one.role}", conditions=waits,
                elevated=True, eligible=True, until=one.expires_at,
            )
        )  # fmt: skip
    return found, sealed


def _raised(row: PrincipalRow, role: str, duty: Role) -> Subject:
    return Subject(name=row.name, person=row.person, duty=duty, roles=(*row.roles, role))


def _duty(role: str) -> Role | None:
    return next((duty for duty in Role if duty.value == role), None)


def _workload(name: str) -> Subject:
    return Subject(name=name, person=False, duty=Role.APPLICATION)

"""Who is here and what there is, as a question about a policy takes them: read once, whatever is asked of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from keyclave.identity.roles import Role
from keyclave.policy.lockout import Holder
from keyclave.policy.reach import Subject, Target
from keyclave.store.access import reviews, workloads
from keyclave.store.access.reviews import PrincipalRow

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk

MOST_KEYS = 10_000
MOST_WORKLOADS = 10_000
SIGNING = ("passkey", "key")


class Tenancy(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's principals and keys. `all_keys` tells whether every key is among them."""

    principals: list[PrincipalRow]
    targets: list[Target]
    all_keys: bool

    def subjects(self) -> list[Subject]:
        """Return everybody who is not disabled."""
        return [subject_of(row) for row in self.principals if not row.disabled]

    def holders(self) -> list[Holder]:
        """Return the people who are not disabled and have some way in, with the most that they can prove."""
        return _holders(self.principals)


def holders_of(conn: Connection, tenant: str, at: int) -> list[Holder]:
    """Return the people of a tenant who are not disabled and have some way in, as they stand within a transaction."""
    return _holders(reviews.read_principals(conn, tenant, at))


def _holders(principals: list[PrincipalRow]) -> list[Holder]:
    found = []
    for row in principals:
        if row.person and not row.disabled and (row.credentials or row.authenticators):
            signs = max((aal for kind, aal in row.authenticators if kind in SIGNING), default=0)
            found.append(Holder(subject=subject_of(row), aal=best_aal(row), signs=signs))
    return found


def tenancy(desk: Desk, attempt: Attempt) -> Tenancy:
    """Read the caller's tenant."""
    tenant, at = attempt.caller.tenant, attempt.at

    def read(conn: Connection) -> Tenancy:
        principals = reviews.read_principals(conn, tenant, at)
        known = {row.name for row in principals}
        principals += [
            workload_row(workload.name, disabled=workload.disabled_at is not None)
            for workload in workloads.list_workloads(conn, tenant, "", MOST_WORKLOADS)
            if workload.name not in known
        ]
        keys = reviews.read_key_rows(conn, tenant, MOST_KEYS + 1)
        targets = [Target(id=key.id, described=key.described, tags=key.tags) for key in keys[:MOST_KEYS]]
        return Tenancy(principals=principals, targets=targets, all_keys=len(keys) <= MOST_KEYS)

    return desk.store.read(read)


def subject_of(row: PrincipalRow) -> Subject:
    """Return a principal as policies see it."""
    return Subject(name=row.name, person=row.person, duty=row.duty, roles=row.roles)


def workload_row(name: str, *, disabled: bool) -> PrincipalRow:
    """Return the row of a workload that is known by its certificate alone."""
    return PrincipalRow(name=name, person=False, duty=Role.APPLICATION, disabled=disabled)


def best_aal(row: PrincipalRow) -> int:
    """Return the highest assurance level that a person can prove: a bearer credential gives 1."""
    return max((aal for kind, aal in row.authenticators if kind != "key"), default=1)

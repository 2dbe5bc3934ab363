"""People as records: who they are, what they prove it with, who invited them, which roles they hold. No rule is decided here."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import Conflict
from keyclave.identity.roles import Role
from keyclave.store import schema as s
from keyclave.store.access import people_tables as t


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A principal, as the store keeps it. Times in microseconds."""

    tenant: str
    name: str
    role: Role
    kind: str
    created_at: int
    disabled_at: int | None = None


class Authenticator(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody proves themselves with.

    `public`: COSE key of a passkey, DER SubjectPublicKeyInfo of a key. `handle`: the passkey's credential id. `sealed`: seed or
    password hash, sealed with the tenant's operational key. `sign_count`: last count of a passkey, last time step of a code
    generator. `failures`: in a row. `event`: of the enrolment, in the log. Times in microseconds.
    """

    id: str
    tenant: str
    principal: str
    kind: str
    label: str
    public: bytes | None = None
    handle: bytes | None = None
    sealed: bytes | None = None
    aal: int
    aaguid: str = ""
    backup_eligible: bool = False
    sign_count: int = 0
    failures: int = 0
    enrolled_at: int
    event: str | None = None
    used_at: int | None = None
    revoked_at: int | None = None
    revoked_why: str | None = None


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A role held beside the duty."""

    id: str
    tenant: str
    principal: str
    role: str
    given_by: str
    given_at: int


# ---- people ---------------------------------------------------------------------------------------------------------------
def read_person(conn: Connection, tenant: str, name: str) -> Person | None:
    """Return the principal of that name, or None."""
    c = s.principals.c
    row = conn.execute(select(s.principals).where(c.tenant == tenant, c.name == name)).first()
    return None if row is None else _person(row)


def list_people(conn: Connection, tenant: str, after: str, limit: int) -> list[Person]:
    """Return people (not workloads) by name after `after`."""
    c = s.principals.c
    query = select(s.principals).where(c.tenant == tenant, c.kind == "person", c.name > after).order_by(c.name).limit(limit)
    return [_person(row) for row in conn.execute(query)]


def set_disabled(conn: Connection, tenant: str, name: str, at: int | None) -> None:
    """Disable (a time) or enable (None) a principal."""
    c = s.principals.c
    conn.execute(update(s.principals).where(c.tenant == tenant, c.name == name).values(disabled_at=at))


def _person(row: Row[Any]) -> Person:
    return Person(
        tenant=row.tenant,
        name=row.name,
        role=Role(row.role),
        kind=row.kind,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )


def find_tenant(conn: Connection, ref: str) -> str | None:
    """Return the id of the tenant with this id or name; the home tenant for an empty one; None where there is none."""
    c = s.tenants.c
    where = c.home.is_(True) if not ref else (c.id == ref) | (c.name == ref)
    return conn.execute(select(c.id).where(where)).scalar_one_or_none()


# ---- authenticators -------------------------------------------------------------------------------------------------------
_OF_PRINCIPAL = (
    select(t.authenticators)
    .where(t.authenticators.c.tenant == bindparam("tenant"), t.authenticators.c.principal == bindparam("principal"))
    .order_by(t.authenticators.c.enrolled_at, t.authenticators.c.id)
)


def insert_authenticator(conn: Connection, authenticator: Authenticator) -> None:
    """Keep a new authenticator. A passkey that is enrolled already, for anybody, is `Conflict`."""
    try:
        conn.execute(t.authenticators.insert(), msgspec.structs.asdict(authenticator))
    except IntegrityError:
        raise Conflict("this authenticator cannot be enrolled", "use another one: it may be enrolled already") from None


def read_authenticator(conn: Connection, tenant: str, authenticator: str) -> Authenticator | None:
    """Return the authenticator of that id within the tenant, revoked or not, or None."""
    c = t.authenticators.c
    row = conn.execute(select(t.authenticators).where(c.tenant == tenant, c.id == authenticator)).first()
    return None if row is None else _authenticator(row)


def find_passkey(conn: Connection, handle: bytes) -> Authenticator | None:
    """Return the passkey with this credential id, in whichever tenant, revoked or not, or None."""
    row = conn.execute(select(t.authenticators).where(t.authenticators.c.handle == handle)).first()
    return None if row is None else _authenticator(row)


def anybody_logs_in(conn: Connection) -> bool:
    """Tell whether anybody ever enrolled an authenticator, in whichever tenant."""
    return conn.execute(select(t.authenticators.c.id).limit(1)).first() is not None


def list_authenticators(conn: Connection, tenant: str, principal: str) -> list[Authenticator]:
    """Return every authenticator of a principal, revoked ones too, oldest first."""
    return [_authenticator(row) for row in conn.execute(_OF_PRINCIPAL, {"tenant": tenant, "principal": principal})]


def live_authenticator(conn: Connection, tenant: str, principal: str, kind: str) -> Authenticator | None:
    """Return the principal's newest authenticator of this kind that is not revoked, or None."""
    found = [a for a in list_authenticators(conn, tenant, principal) if a.kind == kind and a.revoked_at is None]
    return found[-1] if found else None


def count_use(conn: Connection, authenticator: str, sign_count: int, at: int) -> bool:
    """Note a use and its count; False where a later or equal count was noted meanwhile: the same proof came twice.

    A passkey that does not count (always 0) has nothing to compare.
    """
    c = t.authenticators.c
    statement = update(t.authenticators).where(c.id == authenticator, c.revoked_at.is_(None))
    if sign_count:
        statement = statement.where(c.sign_count < sign_count)
    return conn.execute(statement.values(sign_count=sign_count, used_at=at, failures=0)).rowcount == 1


def count_failure(conn: Connection, authenticator: str) -> int:
    """Count one more failure in a row and return how many there are."""
    c = t.authenticators.c
    conn.execute(update(t.authenticators).where(c.id == authenticator).values(failures=c.failures + 1))
    return int(conn.execute(select(c.failures).where(c.id == authenticator)).scalar_one())


def revoke_authenticator(conn: Connection, authenticator: str, at: int, why: str) -> bool:
    """Revoke; False where it was revoked before."""
    c = t.authenticators.c
    statement = update(t.authenticators).where(c.id == authenticator, c.revoked_at.is_(None))
    return conn.execute(statement.values(revoked_at=at, revoked_why=why)).rowcount == 1


def _authenticator(row: Row[Any]) -> Authenticator:
    return Authenticator(**row._mapping)


# ---- recovery codes -------------------------------------------------------------------------------------------------------
def insert_recovery_codes(conn: Connection, authenticator: str, digests: list[bytes]) -> None:
    """Keep the digests of a set of codes."""
    conn.execute(t.recovery_codes.insert(), [{"authenticator": authenticator, "digest": digest} for digest in digests])


def take_recovery_code(conn: Connection, authenticator: str, digest: bytes, at: int) -> bool:
    """Use a code up; False where it is not one of the set, or was used."""
    c = t.recovery_codes.c
    statement = update(t.recovery_codes).where(c.authenticator == authenticator, c.digest == digest, c.used_at.is_(None))
    return conn.execute(statement.values(used_at=at)).rowcount == 1


def count_recovery_codes(conn: Connection, authenticator: str) -> int:
    """Return how many codes of the set are left."""
    c = t.recovery_codes.c
    return len(conn.execute(select(c.digest).where(c.authenticator == authenticator, c.used_at.is_(None))).all())


# ---- memberships ----------------------------------------------------------------------------------------------------------
def read_memberships(conn: Connection, tenant: str, principal: str) -> list[Membership]:
    """Return the roles that a principal holds beside its duty, by name."""
    c = t.memberships.c
    query = select(t.memberships).where(c.tenant == tenant, c.principal == principal, c.ended_at.is_(None)).order_by(c.role)
    found = []
    for row in conn.execute(query):
        given = {"given_by": row.given_by, "given_at": row.given_at}
        found.append(Membership(id=row.id, tenant=row.tenant, principal=row.principal, role=row.role, **given))
    return found


def insert_membership(conn: Connection, membership: Membership) -> None:
    """Give a role. One that is held already is `Conflict`."""
    try:
        conn.execute(t.memberships.insert(), msgspec.structs.asdict(membership))
    except IntegrityError:
        raise Conflict("this role cannot be given", "see `keyclave person show`: it may be held already") from None


def end_membership(conn: Connection, tenant: str, principal: str, role: str, at: int) -> bool:
    """Take a role away; False where it was not held."""
    c = t.memberships.c
    held = (c.tenant == tenant, c.principal == principal, c.role == role, c.ended_at.is_(None))
    return conn.execute(update(t.memberships).where(*held).values(ended_at=at)).rowcount == 1

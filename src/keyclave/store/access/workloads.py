"""Rows of workloads to records and back. No rule is decided here."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import Conflict
from keyclave.identity.scope import Scope
from keyclave.store import schema as s
from keyclave.store.access import workload_tables as w

_encode = msgspec.json.Encoder(order="sorted").encode


class AuthorityRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's issuing authority: its certificate (DER) and its private key, sealed."""

    id: str
    tenant: str
    number: int
    domain: str
    spec: str
    certificate: bytes
    sealed: bytes
    created_at: int
    created_by: str
    not_after: int


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A workload that may call: by its name, or by a SPIFFE ID that ends in /*."""

    id: str
    tenant: str
    name: str
    scope: Scope
    created_at: int
    created_by: str
    disabled_at: int | None = None


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """A token's right to certificates for `name`, without the token."""

    id: str
    tenant: str
    name: str
    uses: int
    used: int
    created_at: int
    created_by: str
    expires_at: int
    revoked_at: int | None = None


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of a tenant's own authority."""

    id: str
    tenant: str
    authority: str
    serial: str
    thumbprint: bytes
    name: str
    source: str
    not_before: int
    not_after: int
    revoked_at: int | None = None


def _row(row: Row[Any], kind: Any) -> Any:
    values = dict(row._mapping)
    return kind(**{name: values[name] for name in kind.__struct_fields__})


# ---- authorities ----------------------------------------------------------------------------------------------------------
def list_authorities(conn: Connection, tenant: str | None = None) -> list[AuthorityRow]:
    """Return every authority, or those of a tenant, oldest first."""
    query = select(w.authorities).order_by(w.authorities.c.tenant, w.authorities.c.number)
    if tenant is not None:
        query = query.where(w.authorities.c.tenant == tenant)
    return [_row(row, AuthorityRow) for row in conn.execute(query)]


def insert_authority(conn: Connection, authority: AuthorityRow) -> None:
    """Keep a new authority; one that came first under the same number is `Conflict`."""
    try:
        conn.execute(w.authorities.insert(), msgspec.structs.asdict(authority))
    except IntegrityError:
        raise Conflict("another authority was made meanwhile", "use that one") from None


# ---- workloads ------------------------------------------------------------------------------------------------------------
def _workload(row: Row[Any]) -> Workload:
    return Workload(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        scope=msgspec.json.decode(row.scope, type=Scope),
        created_at=row.created_at,
        created_by=row.created_by,
        disabled_at=row.disabled_at,
    )


def insert_workload(conn: Connection, workload: Workload) -> None:
    """Keep a new workload; a taken name is `Conflict`."""
    row = msgspec.structs.asdict(workload) | {"scope": _encode(workload.scope).decode()}
    try:
        conn.execute(w.workloads.insert(), row)
    except IntegrityError:
        raise Conflict(f"a workload {workload.name!r} exists", "disable it, or change its scope") from None


def find_workload(conn: Connection, tenant: str, workload: str) -> Workload | None:
    """Return the workload of that id within the tenant, or None."""
    c = w.workloads.c
    row = conn.execute(select(w.workloads).where(c.tenant == tenant, c.id == workload)).first()
    return None if row is None else _workload(row)


def match_workload(conn: Connection, tenant: str, name: str, patterns: list[str]) -> Workload | None:
    """Return the workload of that name, else the one with the longest of the patterns that cover it, or None."""
    c = w.workloads.c
    query = select(w.workloads).where(c.tenant == tenant, c.name.in_([name, *patterns]))
    found = sorted((_workload(row) for row in conn.execute(query)), key=lambda one: (one.name == name, len(one.name)))
    return found[-1] if found else None


def list_workloads(conn: Connection, tenant: str, after: str, limit: int) -> list[Workload]:
    """Return workloads of a tenant by id after `after`."""
    c = w.workloads.c
    query = select(w.workloads).where(c.tenant == tenant, c.id > after).order_by(c.id).limit(limit)
    return [_workload(row) for row in conn.execute(query)]


def update_workload(conn: Connection, workload: Workload) -> None:
    """Write a workload's scope and whether it is disabled."""
    values = {"scope": _encode(workload.scope).decode(), "disabled_at": workload.disabled_at}
    conn.execute(update(w.workloads).where(w.workloads.c.id == workload.id).values(**values))


# ---- enrolments -----------------------------------------------------------------------------------------------------------
def insert_enrolment(conn: Connection, enrolment: Enrolment, digest: bytes) -> None:
    """Keep an enrolment by the digest of its token."""
    conn.execute(w.enrolments.insert(), msgspec.structs.asdict(enrolment) | {"digest": digest})


def read_enrolment(conn: Connection, digest: bytes) -> Enrolment | None:
    """Return the enrolment whose token has this digest, or None."""
    row = conn.execute(select(w.enrolments).where(w.enrolments.c.digest == digest)).first()
    return None if row is None else _row(row, Enrolment)


def find_enrolment(conn: Connection, tenant: str, enrolment: str) -> Enrolment | None:
    """Return the enrolment of that id within the tenant, or None."""
    c = w.enrolments.c
    row = conn.execute(select(w.enrolments).where(c.tenant == tenant, c.id == enrolment)).first()
    return None if row is None else _row(row, Enrolment)


def list_enrolments(conn: Connection, tenant: str, after: str, limit: int) -> list[Enrolment]:
    """Return enrolments of a tenant by id after `after`."""
    c = w.enrolments.c
    query = select(w.enrolments).where(c.tenant == tenant, c.id > after).order_by(c.id).limit(limit)
    return [_row(row, Enrolment) for row in conn.execute(query)]


def use_enrolment(conn: Connection, enrolment: str, at: int) -> bool:
    """Use an enrolment once more; False when it is used up, revoked or over. Of two who race for the last use, one wins."""
    c = w.enrolments.c
    fits = (c.id == enrolment, c.used < c.uses, c.revoked_at.is_(None), c.expires_at > at)
    return conn.execute(update(w.enrolments).where(*fits).values(used=c.used + 1)).rowcount == 1


def revoke_enrolment(conn: Connection, enrolment: str, at: int) -> None:
    """Revoke; a second time changes nothing."""
    c = w.enrolments.c
    conn.execute(update(w.enrolments).where(c.id == enrolment, c.revoked_at.is_(None)).values(revoked_at=at))


# ---- certificates ---------------------------------------------------------------------------------------------------------
def insert_certificate(conn: Connection, certificate: Issued) -> None:
    """Keep a certificate that was issued."""
    conn.execute(w.certificates.insert(), msgspec.structs.asdict(certificate))


def find_certificate(conn: Connection, tenant: str, certificate: str) -> Issued | None:
    """Return the certificate of that id within the tenant, or None."""
    c = w.certificates.c
    row = conn.execute(select(w.certificates).where(c.tenant == tenant, c.id == certificate)).first()
    return None if row is None else _row(row, Issued)


def list_certificates(conn: Connection, tenant: str, after: str, limit: int, name: str) -> list[Issued]:
    """Return certificates of a tenant by id after `after`; `name`, where given, is the workload's."""
    c = w.certificates.c
    query = select(w.certificates).where(c.tenant == tenant, c.id > after).order_by(c.id).limit(limit)
    if name:
        query = query.where(c.name == name)
    return [_row(row, Issued) for row in conn.execute(query)]


def revoked_certificates(conn: Connection, authority: str, since: int) -> list[tuple[int, int]]:
    """Return (serial, when) of an authority's revoked certificates that had not expired at `since`, by serial."""
    c = w.certificates.c
    query = select(c.serial, c.revoked_at).where(c.authority == authority, c.revoked_at.is_not(None), c.not_after > since)
    return [(int(row.serial, 16), row.revoked_at) for row in conn.execute(query.order_by(c.serial))]


def revoke_certificate(conn: Connection, certificate: str, at: int) -> None:
    """Revoke; a second time changes nothing."""
    c = w.certificates.c
    conn.execute(update(w.certificates).where(c.id == certificate, c.revoked_at.is_(None)).values(revoked_at=at))


def block_certificate(conn: Connection, tenant: str, certificate: str, at: int, by: str) -> None:
    """Block a certificate of an outside authority by its id; a second time changes nothing."""
    if not is_blocked(conn, tenant, certificate):
        row = {"tenant": tenant, "id": certificate, "blocked_at": at, "blocked_by": by}
        conn.execute(w.blocked_certificates.insert(), row)


def is_blocked(conn: Connection, tenant: str, certificate: str) -> bool:
    """Tell whether a certificate of an outside authority is blocked."""
    c = w.blocked_certificates.c
    return conn.execute(select(c.id).where(c.tenant == tenant, c.id == certificate)).first() is not None


# ---- what is bound to a certificate, and what was renewed -----------------------------------------------------------------
def bind(conn: Connection, credential: str, thumbprint: bytes, certificate: str) -> None:
    """Bind a credential to a certificate (RFC 8705 section 3)."""
    conn.execute(w.bindings.insert(), {"credential": credential, "thumbprint": thumbprint, "certificate": certificate})


def read_binding(conn: Connection, credential: str) -> bytes | None:
    """Return the thumbprint that a credential is bound to, or None."""
    c = w.bindings.c
    return conn.execute(select(c.thumbprint).where(c.credential == credential)).scalar_one_or_none()


def bound_to(conn: Connection, tenant: str, certificate: str) -> list[str]:
    """Return the ids of a tenant's credentials bound to a certificate that are not revoked."""
    b, c = w.bindings.c, s.credentials.c
    query = select(b.credential).join(s.credentials, c.id == b.credential)
    return list(conn.execute(query.where(c.tenant == tenant, b.certificate == certificate, c.revoked_at.is_(None))).scalars())


def held_by(conn: Connection, tenant: str, name: str, prefix: bool) -> list[str]:
    """Return the ids of credentials of a workload that are not revoked; `prefix`: of all whose name begins so."""
    c = s.credentials.c
    named = func.substr(c.principal, 1, len(name)) == name if prefix else c.principal == name
    query = select(c.id).join(w.bindings, w.bindings.c.credential == c.id)
    return list(conn.execute(query.where(c.tenant == tenant, named, c.revoked_at.is_(None))).scalars())


def keep_renewal(conn: Connection, credential: str, renewed: str, first_at: int) -> None:
    """Keep that `credential` renews another; one that was renewed already is `Conflict`."""
    try:
        conn.execute(w.renewals.insert(), {"credential": credential, "renewed": renewed, "first_at": first_at})
    except IntegrityError:
        raise Conflict("this credential was renewed already", "use the token that came then, or ask for a new one") from None


def first_issued(conn: Connection, credential: str) -> int | None:
    """Return when the first credential of a row of renewals was issued, or None for one that renews nothing."""
    c = w.renewals.c
    return conn.execute(select(c.first_at).where(c.credential == credential)).scalar_one_or_none()


def shorten_credential(conn: Connection, credential: str, until: int) -> None:
    """Let a credential end at `until`, if it would live longer."""
    c = s.credentials.c
    conn.execute(update(s.credentials).where(c.id == credential, c.expires_at > until).values(expires_at=until))


def carry_binding(conn: Connection, credential: str, to: str) -> None:
    """Bind a credential to the certificate that another is bound to, if it is."""
    b = w.bindings.c
    row = conn.execute(select(b.thumbprint, b.certificate).where(b.credential == credential)).first()
    if row is not None:
        bind(conn, to, row.thumbprint, row.certificate)

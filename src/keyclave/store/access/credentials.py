"""Principals and their bearer credentials: rows to records and back. No rule is decided here."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, update

from keyclave.identity.caller import Credential
from keyclave.identity.roles import Role
from keyclave.identity.scope import Scope
from keyclave.store import schema as s

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder(order="sorted").encode

_ROLE = select(s.principals.c.role).where(s.principals.c.tenant == bindparam("tenant"), s.principals.c.name == bindparam("name"))
_CREDENTIALS = select(s.credentials, s.principals.c.role).join(
    s.principals,
    (s.principals.c.tenant == s.credentials.c.tenant) & (s.principals.c.name == s.credentials.c.principal),
)
_BY_DIGEST = _CREDENTIALS.where(s.credentials.c.digest == bindparam("digest"), s.principals.c.disabled_at.is_(None))
_BY_CREDENTIAL = _CREDENTIALS.where(s.credentials.c.tenant == bindparam("tenant"), s.credentials.c.id == bindparam("id"))


def read_role(conn: Connection, tenant: str, principal: str) -> Role | None:
    """Return the role that the principal holds, or None for a name not known yet."""
    role = conn.execute(_ROLE, {"tenant": tenant, "name": principal}).scalar_one_or_none()
    return None if role is None else Role(role)


def _credential(row: Row[Any]) -> Credential:
    return Credential(
        id=row.id,
        tenant=row.tenant,
        principal=row.principal,
        role=Role(row.role),
        scope=None if row.scope is None else _decode(row.scope, type=Scope),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def insert_principal(conn: Connection, tenant: str, name: str, role: Role, at: int) -> None:
    """Keep a principal with its one duty. Names are never used again: the row is never deleted."""
    kind = "workload" if role is Role.APPLICATION else "person"
    conn.execute(s.principals.insert(), {"tenant": tenant, "name": name, "role": role.value, "created_at": at, "kind": kind})


def insert_credential(conn: Connection, credential: Credential, digest: bytes) -> None:
    """Keep a credential by the digest of its token, and its principal with the role if the name is new."""
    c = credential
    if read_role(conn, c.tenant, c.principal) is None:
        insert_principal(conn, c.tenant, c.principal, c.role, c.created_at)
    row: dict[str, Any] = {"id": c.id, "tenant": c.tenant, "principal": c.principal, "digest": digest, "created_at": c.created_at}
    row |= {"scope": None if c.scope is None else _encode(c.scope).decode(), "created_by": c.created_by}
    conn.execute(s.credentials.insert(), row | {"expires_at": c.expires_at, "revoked_at": None})


def read_credential(conn: Connection, digest: bytes) -> Credential | None:
    """Return the credential whose token has this digest, or None."""
    row = conn.execute(_BY_DIGEST, {"digest": digest}).first()
    return None if row is None else _credential(row)


def find_credential(conn: Connection, tenant: str, credential: str) -> Credential | None:
    """Return the credential of that id within the tenant, or None."""
    row = conn.execute(_BY_CREDENTIAL, {"tenant": tenant, "id": credential}).first()
    return None if row is None else _credential(row)


def list_credentials(conn: Connection, tenant: str, after: str, limit: int) -> list[Credential]:
    """Return credentials of a tenant by id after `after`."""
    c = s.credentials.c
    query = _CREDENTIALS.where(c.tenant == tenant, c.id > after).order_by(c.id).limit(limit)
    return [_credential(row) for row in conn.execute(query)]


def live_credentials(conn: Connection, tenant: str, now: int, principal: str = "") -> list[Credential]:
    """Return credentials that are neither revoked nor over, whose principal is enabled: of one principal or of all, by id."""
    c = s.credentials.c
    live = (c.tenant == tenant, c.revoked_at.is_(None), c.expires_at > now, s.principals.c.disabled_at.is_(None))
    query = _CREDENTIALS.where(*live).order_by(c.id)
    return [_credential(row) for row in conn.execute(query.where(c.principal == principal) if principal else query)]


def revoke_credential(conn: Connection, credential: str, at: int) -> None:
    """Revoke; a second time changes nothing."""
    c = s.credentials.c
    conn.execute(update(s.credentials).where(c.id == credential, c.revoked_at.is_(None)).values(revoked_at=at))

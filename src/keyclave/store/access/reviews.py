"""What a review of rights reads: every principal with what it holds, every key with what policies look at. No rule is here."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, select

from keyclave.identity.roles import SHARE_HOLDER, Role
from keyclave.store import schema as s
from keyclave.store.access import people_tables as t
from keyclave.store.access.shares import read_holders


class PrincipalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A principal with the roles it holds beside its duty, and the kinds of its live authenticators with their levels."""

    name: str
    person: bool
    duty: Role
    disabled: bool
    roles: tuple[str, ...] = ()
    authenticators: tuple[tuple[str, int], ...] = ()
    credentials: int = 0


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What policies look at of a key."""

    id: str
    described: dict[str, str]
    tags: dict[str, str]


DESCRIBED = ("name", "spec", "purpose", "owner", "environment", "classification", "location")


def read_principals(conn: Connection, tenant: str, now: int, only: str = "") -> list[PrincipalRow]:
    """Return every principal of a tenant by name, in five reads whatever their number; or the one of that name, if there is.

    Who holds a share has the role that rules call it by among theirs."""
    holders = read_holders(conn, tenant)
    p, m, a, c = s.principals.c, t.memberships.c, t.authenticators.c, s.credentials.c
    roles: dict[str, list[str]] = {}
    held = select(m.principal, m.role).where(m.tenant == tenant, m.ended_at.is_(None))
    for name, role in conn.execute(held.where(m.principal == only) if only else held):
        roles.setdefault(name, []).append(role)
    proofs: dict[str, list[tuple[str, int]]] = {}
    enrolled = select(a.principal, a.kind, a.aal).where(a.tenant == tenant, a.revoked_at.is_(None))
    for name, kind, aal in conn.execute(enrolled.where(a.principal == only) if only else enrolled):
        proofs.setdefault(name, []).append((kind, aal))
    live = select(c.principal, func.count()).where(c.tenant == tenant, c.revoked_at.is_(None), c.expires_at > now)
    live = live.where(c.principal == only) if only else live
    credentials: dict[str, int] = {row[0]: row[1] for row in conn.execute(live.group_by(c.principal))}
    named = select(p.name, p.kind, p.role, p.disabled_at).where(p.tenant == tenant).order_by(p.name)
    rows = conn.execute(named.where(p.name == only) if only else named)
    return [
        PrincipalRow(
            name=row.name,
            person=row.kind == "person",
            duty=Role(row.role),
            disabled=row.disabled_at is not None,
            roles=tuple(sorted((*roles.get(row.name, ()), *((SHARE_HOLDER,) if row.name in holders else ())))),
            authenticators=tuple(sorted(proofs.get(row.name, ()))),
            credentials=credentials.get(row.name, 0),
        )
        for row in rows
    ]


def read_key_rows(conn: Connection, tenant: str, limit: int) -> list[KeyRow]:
    """Return what policies look at of a tenant's keys, by name, at most `limit`."""
    k = s.keys.c
    query = select(k.id, k.tags, *(k[name] for name in DESCRIBED)).where(k.tenant == tenant).order_by(k.name).limit(limit)
    return [
        KeyRow(
            id=row.id,
            described={name: str(getattr(row, name)) for name in DESCRIBED},
            tags=msgspec.json.decode(row.tags, type=dict[str, str]),
        )
        for row in conn.execute(query)
    ]

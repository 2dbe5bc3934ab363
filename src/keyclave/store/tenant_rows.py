"""Tenants and their sealed keys, as rows. No rule is decided here."""

from __future__ import annotations

from sqlalchemy import Connection, select

from keyclave.core.errors import Conflict
from keyclave.store import schema as s


def insert_tenant(conn: Connection, tenant: str, name: str, sealed: dict[str, bytes], at: int, *, home: bool) -> None:
    """Keep a tenant and its sealed keys by duty. A taken name is `Conflict`."""
    if conn.execute(select(s.tenants.c.id).where(s.tenants.c.name == name)).first():
        raise Conflict(f"a tenant named {name!r} exists", "choose another name")
    conn.execute(s.tenants.insert(), {"id": tenant, "name": name, "home": home, "created_at": at})
    rows = [{"tenant": tenant, "duty": duty, "sealed": blob, "created_at": at} for duty, blob in sealed.items()]
    conn.execute(s.tenant_keys.insert(), rows)


def tenant_is_home(conn: Connection, tenant: str) -> bool:
    """Tell whether this is the tenant that may create others."""
    return bool(conn.execute(select(s.tenants.c.home).where(s.tenants.c.id == tenant)).scalar_one_or_none())


def home_tenant(conn: Connection) -> str:
    """Return the id of the tenant that may create others."""
    return str(conn.execute(select(s.tenants.c.id).where(s.tenants.c.home)).scalar_one())


def read_tenant_keys(conn: Connection) -> list[tuple[str, str, bytes]]:
    """Return (tenant, duty, sealed) of every tenant."""
    columns = (s.tenant_keys.c.tenant, s.tenant_keys.c.duty, s.tenant_keys.c.sealed)
    return [(r[0], r[1], r[2]) for r in conn.execute(select(*columns).order_by(*columns[:2]))]

"""Holders of shares as rows: the newest naming of a share says who keeps it now, the older ones who did before."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, select

from keyclave.store.access.share_tables import share_holders

_c = share_holders.c


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """That somebody was named as the holder of a share. `set_id` of the ceremony, in hexadecimal; `since` in microseconds.

    `event` is the log's record of it, `approval` the request that others approved, None for what the ceremony named."""

    set_id: str
    share: int
    tenant: str
    principal: str
    since: int
    named_by: str
    event: str
    approval: str | None = None


def insert_holding(conn: Connection, holding: Holding) -> None:
    """Name a holder. Whoever held the share before holds it no more."""
    conn.execute(share_holders.insert(), msgspec.structs.asdict(holding))


def read_history(conn: Connection, set_id: str) -> list[Holding]:
    """Return every naming of the shares of a set, in order."""
    rows = conn.execute(select(share_holders).where(_c.set_id == set_id).order_by(_c.number))
    return [Holding(**{name: getattr(row, name) for name in Holding.__struct_fields__}) for row in rows]


def read_all(conn: Connection, tenant: str) -> list[Holding]:
    """Return every naming of a tenant, of whatever set, in order."""
    rows = conn.execute(select(share_holders).where(_c.tenant == tenant).order_by(_c.number))
    return [Holding(**{name: getattr(row, name) for name in Holding.__struct_fields__}) for row in rows]


def read_holder(conn: Connection, set_id: str, share: int) -> Holding | None:
    """Return who holds a share now; None where nobody was named."""
    found = [one for one in read_history(conn, set_id) if one.share == share]
    return found[-1] if found else None


def read_holders(conn: Connection, tenant: str) -> set[str]:
    """Return everybody of a tenant who holds a share now, of whatever set: an older one opens the same root."""
    newest = select(func.max(_c.number)).group_by(_c.set_id, _c.share)
    return set(conn.scalars(select(_c.principal).where(_c.tenant == tenant, _c.number.in_(newest))))


def holds_share(conn: Connection, tenant: str, principal: str) -> bool:
    """Tell whether somebody holds a share now."""
    named = conn.execute(select(_c.number, _c.set_id, _c.share).where(_c.tenant == tenant, _c.principal == principal)).all()
    return any(
        row.number == conn.scalar(select(func.max(_c.number)).where(_c.set_id == row.set_id, _c.share == row.share))
        for row in named
    )

"""Rows of grants to records and back. A counted grant is spent by a conditional update: the last use is given once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, func, select, update

from keyclave.identity.grants import Grant
from keyclave.store.access.grant_tables import grants
from keyclave.store.prepared import Prepared

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder(order="sorted").encode
_LISTS = ("operations", "keys", "purposes", "networks")
_g = grants.c

_HELD = (
    select(grants)
    .where(_g.tenant == bindparam("tenant"), _g.grantee == bindparam("grantee"), _g.ended_at.is_(None))
    .where(_g.expires_at > bindparam("now"))
)
_SPEND = Prepared(
    update(grants)
    .where(_g.id == bindparam("grant"), _g.ended_at.is_(None), _g.expires_at > bindparam("now"))
    .where((_g.uses.is_(None)) | (_g.remaining >= bindparam("number")))
    .values(remaining=_g.remaining - bindparam("number"))
)
_LINK = select(_g.parent, _g.remaining).where(_g.id == bindparam("grant"))


def _grant(row: Row[Any]) -> Grant:
    lists: dict[str, Any] = {name: tuple(_decode(getattr(row, name), type=list[str])) for name in _LISTS}
    return Grant(
        id=row.id,
        tenant=row.tenant,
        grantee=row.grantee,
        context=_decode(row.context, type=dict[str, tuple[str, ...]]),
        counted=row.counted,
        created_at=row.created_at,
        created_by=row.created_by,
        delegate=row.delegate,
        depth=row.depth,
        end=row.end or "",
        ended_at=row.ended_at,
        ended_by=row.ended_by or "",
        exact=row.exact,
        expires_at=row.expires_at,
        parent=row.parent or "",
        remaining=row.remaining,
        uses=row.uses,
        **lists,
    )


def insert_grant(conn: Connection, grant: Grant) -> None:
    """Keep a new grant."""
    row = msgspec.structs.asdict(grant)
    row |= {name: _encode(row[name]).decode() for name in (*_LISTS, "context")}
    row |= {"parent": grant.parent or None, "end": None, "ended_by": None}
    conn.execute(grants.insert(), row)


def held_grants(conn: Connection, tenant: str, grantee: str, now: int) -> tuple[Grant, ...]:
    """Return what a principal was granted and still may use: nothing is used up, of the grants above it neither."""
    found = [_grant(row) for row in conn.execute(_HELD, {"tenant": tenant, "grantee": grantee, "now": now})]
    return tuple(grant for grant in found if not grant.counted or not _used_up(conn, grant))


def _used_up(conn: Connection, grant: Grant) -> bool:
    link: str | None = grant.id
    while link is not None:
        row = conn.execute(_LINK, {"grant": link}).one()
        if row.remaining == 0:
            return True
        link = row.parent
    return False


def read_grant(conn: Connection, tenant: str, grant: str) -> Grant | None:
    """Return the grant of that id within the tenant, or None."""
    row = conn.execute(select(grants).where(_g.tenant == tenant, _g.id == grant)).first()
    return None if row is None else _grant(row)


def list_grants(
    conn: Connection, tenant: str, after: str, limit: int, *, party: str = "", grantee: str = "", now: int | None = None
) -> list[Grant]:
    """Return grants of a tenant by id after `after`: that `party` gave or holds, that go to `grantee`, that are live at `now`."""
    query = select(grants).where(_g.tenant == tenant, _g.id > after).order_by(_g.id).limit(limit)
    if party:
        query = query.where((_g.grantee == party) | (_g.created_by == party))
    if grantee:
        query = query.where(_g.grantee == grantee)
    if now is not None:
        query = query.where(_g.ended_at.is_(None), _g.expires_at > now, (_g.remaining.is_(None)) | (_g.remaining > 0))
    return [_grant(row) for row in conn.execute(query)]


def count_held(conn: Connection, tenant: str, grantee: str, now: int) -> int:
    """Return how many live grants a principal holds."""
    query = select(func.count()).select_from(_HELD.subquery())
    return int(conn.execute(query, {"tenant": tenant, "grantee": grantee, "now": now}).scalar_one())


def below(conn: Connection, grant: str) -> list[Grant]:
    """Return a grant and every grant made from it, near or far, that has not ended."""
    chain = select(_g.id).where(_g.id == grant).cte("chain", recursive=True)
    chain = chain.union(select(_g.id).where(_g.parent == chain.c.id))
    query: Select[Any] = select(grants).where(_g.id.in_(select(chain.c.id)), _g.ended_at.is_(None))
    return [_grant(row) for row in conn.execute(query)]


def end_grants(conn: Connection, ids: Iterable[str], how: str, at: int, by: str) -> None:
    """End grants; those that have ended already stay as they are."""
    ending = update(grants).where(_g.id == bindparam("grant"), _g.ended_at.is_(None))
    rows = [{"grant": grant} for grant in ids]
    if rows:
        conn.execute(ending.values(end=how, ended_at=at, ended_by=by), rows)


def spend(conn: Connection, grant: str, number: int, now: int) -> tuple[str, ...] | None:
    """Use `number` uses of a grant and of every grant above it. None where one of them has not so many, or has ended.

    What was spent before it answers None is undone with the transaction: the caller must refuse. Otherwise it returns the
    grantees who hold nothing more of what was used up just now.
    """
    over: list[str] = []
    link: str | None = grant
    while link is not None:
        if _SPEND.run(conn, {"grant": link, "number": number, "now": now}) != 1:
            return None
        row = conn.execute(_LINK, {"grant": link}).one()
        if row.remaining == 0:
            over += [each.grantee for each in below(conn, link)]
        link = row.parent
    return tuple(over)

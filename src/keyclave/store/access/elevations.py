"""Rows of eligibilities, elevations and alarms to records and back. What must happen once is held by unique indexes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, select, update
from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import Conflict
from keyclave.identity.elevation import BREAK_GLASS, Alarm, Elevation, Eligibility, Reach
from keyclave.identity.roles import Role
from keyclave.store import schema
from keyclave.store.access.grant_tables import alarms, elevations, eligibilities

_e, _v, _a = eligibilities.c, elevations.c, alarms.c
_LIVE = select(elevations).where(_v.credential == bindparam("credential"), _v.ended_at.is_(None), _v.ends_at > bindparam("now"))


class Sealed(msgspec.Struct, frozen=True):
    """An eligibility for break-glass as it is stored: its row, whom it is for as a keyed hash, and the sealed rest."""

    eligibility: Eligibility
    tag: bytes
    sealed: bytes


# ---- eligibilities --------------------------------------------------------------------------------------------------------
def _eligibility(row: Row[Any]) -> Eligibility:
    return Eligibility(
        id=row.id,
        tenant=row.tenant,
        principal=row.principal or "",
        role=row.role,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by or "",
    )


def insert_eligibility(conn: Connection, eligibility: Eligibility, tag: bytes | None = None, sealed: bytes | None = None) -> None:
    """Keep an eligibility; one for break-glass without its principal, which is in `sealed` and, hashed, in `tag`."""
    row: dict[str, Any] = {name: getattr(eligibility, name) for name in ("id", "tenant", "role", "created_at", "created_by")}
    row |= {"principal": None if sealed is not None else eligibility.principal, "tag": tag, "sealed": sealed}
    conn.execute(eligibilities.insert(), row | {"expires_at": eligibility.expires_at})


def read_eligibility(conn: Connection, tenant: str, eligibility: str) -> Eligibility | None:
    """Return the eligibility of that id within the tenant, or None; of break-glass without its sealed part."""
    row = conn.execute(select(eligibilities).where(_e.tenant == tenant, _e.id == eligibility)).first()
    return None if row is None else _eligibility(row)


def eligibilities_of(conn: Connection, tenant: str, principal: str, now: int) -> list[Eligibility]:
    """Return the roles that a principal may take on now, break-glass not among them."""
    query = select(eligibilities).where(_e.tenant == tenant, _e.principal == principal)
    return [_eligibility(row) for row in conn.execute(query.where(_e.revoked_at.is_(None), _e.expires_at > now))]


def sealed_of(conn: Connection, tenant: str, tag: bytes, now: int) -> list[Sealed]:
    """Return the live eligibilities for break-glass of whoever has that keyed hash."""
    query = select(eligibilities).where(_e.tenant == tenant, _e.tag == tag, _e.revoked_at.is_(None), _e.expires_at > now)
    return [Sealed(_eligibility(row), row.tag, row.sealed) for row in conn.execute(query.order_by(_e.created_at))]


def list_eligibilities(conn: Connection, tenant: str, after: str, limit: int) -> list[tuple[Eligibility, bytes | None]]:
    """Return (eligibility, sealed part) by id after `after`."""
    query = select(eligibilities).where(_e.tenant == tenant, _e.id > after).order_by(_e.id).limit(limit)
    return [(_eligibility(row), row.sealed) for row in conn.execute(query)]


def revoke_eligibility(conn: Connection, eligibility: str, at: int, by: str) -> None:
    """Revoke; a second time changes nothing."""
    revoking = update(eligibilities).where(_e.id == eligibility, _e.revoked_at.is_(None))
    conn.execute(revoking.values(revoked_at=at, revoked_by=by))


# ---- elevations -----------------------------------------------------------------------------------------------------------
def _elevation(row: Row[Any]) -> Elevation:
    found: dict[str, Any] = {name: getattr(row, name) or "" for name in ("ended_by", "notes", "reviewed_by", "verdict")}
    same = ("id", "tenant", "principal", "credential", "role", "duty", "eligibility", "reason", "started_at", "ends_at")
    times = ("alarmed_at", "ended_at", "review_due_at", "reviewed_at")
    found |= {name: getattr(row, name) for name in (*same, *times)}
    return Elevation(reach=msgspec.json.decode(row.reach, type=Reach) if row.reach else None, **found)


def insert_elevation(conn: Connection, elevation: Elevation) -> None:
    """Keep an elevation. `Conflict` where the credential has one, or a break-glass of the principal waits for its review."""
    row = msgspec.structs.asdict(elevation)
    row["reach"] = "" if elevation.reach is None else msgspec.json.encode(elevation.reach).decode()
    for name in ("ended_by", "notes", "reviewed_by", "verdict"):
        row[name] = row[name] or None
    try:
        conn.execute(elevations.insert(), row)
    except IntegrityError:
        raise Conflict(
            "an elevation of this credential runs, or a break-glass of this person waits for its review",
            "see `keyclave elevation list`",
        ) from None


def live_elevation(conn: Connection, credential: str, now: int) -> Elevation | None:
    """Return the elevation that a credential has now, or None."""
    row = conn.execute(_LIVE, {"credential": credential, "now": now}).first()
    return None if row is None else _elevation(row)


def read_elevation(conn: Connection, tenant: str, elevation: str) -> Elevation | None:
    """Return the elevation of that id within the tenant, or None."""
    row = conn.execute(select(elevations).where(_v.tenant == tenant, _v.id == elevation)).first()
    return None if row is None else _elevation(row)


def list_elevations(conn: Connection, tenant: str, after: str, limit: int, *, principal: str = "") -> list[Elevation]:
    """Return elevations, of one principal or of all, newest first before the one called `after`."""
    query = select(elevations).where(_v.tenant == tenant).order_by(_v.started_at.desc(), _v.id).limit(limit)
    if principal:
        query = query.where(_v.principal == principal)
    if after:
        mark = select(_v.started_at).where(_v.id == after).scalar_subquery()
        query = query.where((_v.started_at < mark) | ((_v.started_at == mark) & (_v.id > after)))
    return [_elevation(row) for row in conn.execute(query)]


def running(conn: Connection, *, credential: str = "", eligibility: str = "") -> list[Elevation]:
    """Return elevations that nobody has ended yet, of a credential or by an eligibility."""
    query = select(elevations).where(_v.ended_at.is_(None))
    query = query.where(_v.credential == credential) if credential else query.where(_v.eligibility == eligibility)
    return [_elevation(row) for row in conn.execute(query)]


def unreviewed(conn: Connection, tenant: str, principal: str) -> Elevation | None:
    """Return the break-glass of a person that waits for its review, or None."""
    query = select(elevations).where(_v.tenant == tenant, _v.principal == principal, _v.role == BREAK_GLASS)
    row = conn.execute(query.where(_v.reviewed_at.is_(None))).first()
    return None if row is None else _elevation(row)


def over(conn: Connection, now: int, limit: int) -> list[Elevation]:
    """Return elevations whose time is over and that nobody has ended yet."""
    query = select(elevations).where(_v.ended_at.is_(None), _v.ends_at <= now).order_by(_v.ends_at).limit(limit)
    return [_elevation(row) for row in conn.execute(query)]


def overdue(conn: Connection, now: int, limit: int) -> list[Elevation]:
    """Return break-glass elevations whose review is overdue."""
    query = select(elevations).where(_v.review_due_at.is_not(None), _v.reviewed_at.is_(None), _v.review_due_at <= now)
    return [_elevation(row) for row in conn.execute(query.order_by(_v.review_due_at).limit(limit))]


def end_elevations(conn: Connection, ids: Iterable[str], at: int, by: str) -> None:
    """End elevations; those that have ended already stay as they are."""
    rows = [{"elevation": elevation} for elevation in ids]
    if rows:
        ending = update(elevations).where(_v.id == bindparam("elevation"), _v.ended_at.is_(None))
        conn.execute(ending.values(ended_at=at, ended_by=by), rows)


def review_elevation(conn: Connection, elevation: str, at: int, by: str, verdict: str, notes: str) -> bool:
    """Keep the review of a break-glass, or tell that it was reviewed before."""
    reviewing = update(elevations).where(_v.id == elevation, _v.reviewed_at.is_(None))
    return conn.execute(reviewing.values(reviewed_at=at, reviewed_by=by, verdict=verdict, notes=notes)).rowcount == 1


def keepers(conn: Connection, tenant: str, now: int) -> list[str]:
    """Return whom an alarm goes to: every custodian and auditor, whether by duty or by an elevation that runs."""
    duties = (Role.CUSTODIAN.value, Role.AUDITOR.value)
    p = schema.principals.c
    standing = select(p.name).where(p.tenant == tenant, p.role.in_(duties), p.disabled_at.is_(None))
    elevated = select(_v.principal).where(_v.tenant == tenant, _v.duty.in_(duties), _v.ended_at.is_(None), _v.ends_at > now)
    return sorted(conn.execute(standing.union(elevated)).scalars())


# ---- alarms ---------------------------------------------------------------------------------------------------------------
def raise_alarms(conn: Connection, raised: list[Alarm]) -> None:
    """Keep an alarm for each recipient, and on its elevation when people were last alarmed of it."""
    if not raised:
        return
    conn.execute(alarms.insert(), [msgspec.structs.asdict(alarm) for alarm in raised])
    conn.execute(update(elevations).where(_v.id == raised[0].elevation).values(alarmed_at=raised[0].raised_at))


def list_alarms(conn: Connection, tenant: str, recipient: str, *, everything: bool, limit: int) -> list[Alarm]:
    """Return a person's alarms, newest first: those not acknowledged, or all."""
    query = select(alarms).where(_a.tenant == tenant, _a.recipient == recipient)
    if not everything:
        query = query.where(_a.acknowledged_at.is_(None))
    return [Alarm(**row._mapping) for row in conn.execute(query.order_by(_a.raised_at.desc(), _a.id).limit(limit))]


def count_alarms(conn: Connection, tenant: str, recipient: str) -> int:
    """Return how many alarms a person has not acknowledged."""
    query = select(func.count()).where(_a.tenant == tenant, _a.recipient == recipient, _a.acknowledged_at.is_(None))
    return int(conn.execute(query).scalar_one())


def acknowledge_alarm(conn: Connection, tenant: str, recipient: str, alarm: str, at: int) -> Alarm | None:
    """Acknowledge one's own alarm; a second time changes nothing. None where there is no such alarm of theirs."""
    own = (_a.tenant == tenant, _a.recipient == recipient, _a.id == alarm)
    conn.execute(update(alarms).where(*own, _a.acknowledged_at.is_(None)).values(acknowledged_at=at))
    row = conn.execute(select(alarms).where(*own)).first()
    return None if row is None else Alarm(**row._mapping)

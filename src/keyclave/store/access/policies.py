"""Policy revisions: rows to records and back. No rule is decided here."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import StaleRevision
from keyclave.store.access.policy_tables import policy_revisions as t


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a tenant's policy. `approval` is empty for the first, which the ceremony made."""

    tenant: str
    number: int
    files: dict[str, str]
    digest: bytes
    applied_at: int
    applied_by: str
    approval: str = ""


def insert_revision(conn: Connection, revision: Revision) -> None:
    """Keep the next revision; `StaleRevision` if another one has its number."""
    row = {**msgspec.structs.asdict(revision), "files": msgspec.json.encode(revision.files).decode()}
    try:
        conn.execute(t.insert(), row)
    except IntegrityError:
        raise StaleRevision(
            "another revision of the policy was applied meanwhile", "plan again: `keyclave policy plan`"
        ) from None


def read_revision(conn: Connection, tenant: str, number: int | None = None) -> Revision | None:
    """Return a revision, the newest if none is named, or None."""
    query = select(t).where(t.c.tenant == tenant).order_by(t.c.number.desc()).limit(1)
    if number is not None:
        query = query.where(t.c.number == number)
    row = conn.execute(query).mappings().first()
    if row is None:
        return None
    return Revision(**{**row, "files": msgspec.json.decode(row["files"], type=dict[str, str])})


def list_revisions(conn: Connection, tenant: str, before: int, limit: int) -> list[tuple[int, bytes, int, str, str]]:
    """Return (number, digest, applied_at, applied_by, approval) of revisions below `before`, newest first."""
    columns = (t.c.number, t.c.digest, t.c.applied_at, t.c.applied_by, t.c.approval)
    query = select(*columns).where(t.c.tenant == tenant, t.c.number < before).order_by(t.c.number.desc()).limit(limit)
    return [(r[0], r[1], r[2], r[3], r[4]) for r in conn.execute(query)]

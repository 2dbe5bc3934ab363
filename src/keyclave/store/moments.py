"""Moments as records: kept, found, changed and taken by any node; taken once.

Two nodes may be about to take the same one. What decides is the row: it is deleted, or changed, only while it still holds what
was read, and whoever deletes no row has come too late.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, select, text, update

from keyclave.store.access.session_tables import ceremonies
from keyclave.store.moment_tables import moments

FAILURES = 65_536  # counts of failures that are kept: those that are over soonest go first
_TIDIED = 4096  # rows deleted in one transaction, at most


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `name` and `code` are 32-byte digests; `owner`: whose bound it counts against. Times in microseconds."""

    kind: str
    name: bytes
    code: bytes | None = None
    owner: str
    count: int = 0
    held: bytes = b""
    made_at: int
    expires_at: int


_c = moments.c
_BY_NAME = select(moments).where(_c.kind == bindparam("kind"), _c.name == bindparam("name"), _c.expires_at > bindparam("now"))
_BY_CODE = select(moments).where(_c.kind == bindparam("kind"), _c.code == bindparam("code"), _c.expires_at > bindparam("now"))
_AS_READ = (_c.kind == bindparam("of_kind"), _c.name == bindparam("of_name"), _c.held == bindparam("as_read"))
_TAKE = delete(moments).where(*_AS_READ)
_REPLACE = update(moments).where(*_AS_READ).values(held=bindparam("becomes"))
_KEEP = text(
    "INSERT INTO moments (kind, name, code, owner, count, held, made_at, expires_at) "
    "VALUES (:kind, :name, :code, :owner, :count, :held, :made_at, :expires_at) ON CONFLICT DO NOTHING"
)
_FAILED = text(
    "INSERT INTO moments (kind, name, owner, count, held, made_at, expires_at) "
    "VALUES ('failure', :name, :owner, 1, :held, :at, :expires_at) "
    "ON CONFLICT (kind, name) DO UPDATE SET made_at = excluded.made_at, expires_at = excluded.expires_at, "
    "count = CASE WHEN moments.expires_at > excluded.made_at THEN moments.count + 1 ELSE 1 END"
)


def keep_moment(conn: Connection, moment: Moment) -> bool:
    """Keep a new one; False where its name or its code is taken."""
    return conn.execute(_KEEP, msgspec.structs.asdict(moment)).rowcount == 1


def find_moment(conn: Connection, kind: str, name: bytes, now: int) -> Moment | None:
    """Return the one of that name, unless it is over; else None."""
    return _moment(conn.execute(_BY_NAME, {"kind": kind, "name": name, "now": now}).first())


def find_code(conn: Connection, kind: str, code: bytes, now: int) -> Moment | None:
    """Return the one of that code, unless it is over; else None."""
    return _moment(conn.execute(_BY_CODE, {"kind": kind, "code": code, "now": now}).first())


def take_moment(conn: Connection, moment: Moment) -> bool:
    """Use it up, inside the transaction of what it permits; False where another took or changed it since it was read."""
    return conn.execute(_TAKE, {"of_kind": moment.kind, "of_name": moment.name, "as_read": moment.held}).rowcount == 1


def replace_held(conn: Connection, moment: Moment, held: bytes) -> bool:
    """Let it hold something else; False where another took or changed it since it was read."""
    asked = {"of_kind": moment.kind, "of_name": moment.name, "as_read": moment.held, "becomes": held}
    return conn.execute(_REPLACE, asked).rowcount == 1


def count_waiting(conn: Connection, kind: str, now: int, owner: str | None = None) -> int:
    """Return how many of a kind wait, of one owner or of all."""
    query = select(func.count()).where(_c.kind == kind, _c.expires_at > now)
    return int(conn.execute(query if owner is None else query.where(_c.owner == owner)).scalar_one())


def claim(conn: Connection, name: bytes, node: str, now: int, lasts: int) -> bool:
    """Claim something that one of several nodes is to do; False while another's claim lasts, `lasts` microseconds at most."""
    conn.execute(delete(moments).where(_c.kind == "claim", _c.name == name, _c.expires_at <= now))
    return keep_moment(conn, Moment(kind="claim", name=name, owner=node[:64], made_at=now, expires_at=now + lasts))


# ---- failures in a row ----------------------------------------------------------------------------------------------------
def count_failed(conn: Connection, name: bytes, owner: str, at: int, quiet: int) -> None:
    """Count a failure under `name`, one more than the last unless that is `quiet` microseconds ago."""
    conn.execute(_FAILED, {"name": name, "owner": owner, "held": b"", "at": at, "expires_at": at + quiet})


def read_failed(conn: Connection, name: bytes, now: int) -> tuple[int, int]:
    """Return how many failures in a row there were under `name`, and when the last one was; (0, 0) where there are none."""
    found = find_moment(conn, "failure", name, now)
    return (0, 0) if found is None else (found.count, found.made_at)


def forget_failed(conn: Connection, name: bytes) -> None:
    """Take the failures under `name` back."""
    conn.execute(delete(moments).where(_c.kind == "failure", _c.name == name))


# ---- by the clock ---------------------------------------------------------------------------------------------------------
def is_untidy(conn: Connection, now: int) -> bool:
    """Tell whether anything is over: whoever asks first spares the store a commit that deletes nothing."""
    over = select(_c.kind).where(_c.expires_at <= now).limit(1)
    spent = select(ceremonies.c.kind).where(ceremonies.c.expires_at <= now).limit(1)
    if conn.execute(over).first() is not None or conn.execute(spent).first() is not None:
        return True
    return count_waiting(conn, "failure", now) > FAILURES


def tidy_moments(conn: Connection, now: int) -> int:
    """Delete what is over, and what is more than may be kept; return how many rows that were. Bounded work each time."""
    gone = 0
    for table in (moments, ceremonies):
        names = [c.name for c in table.primary_key]
        over = select(*table.primary_key).where(table.c.expires_at <= now).order_by(table.c.expires_at).limit(_TIDIED)
        gone += _delete(conn, table, names, conn.execute(over).all())
    most = max(0, count_waiting(conn, "failure", now) - FAILURES)
    if most:
        soonest = select(_c.kind, _c.name).where(_c.kind == "failure").order_by(_c.expires_at).limit(min(most, _TIDIED))
        gone += _delete(conn, moments, ["kind", "name"], conn.execute(soonest).all())
    return gone


def _delete(conn: Connection, table: Any, names: list[str], rows: Any) -> int:
    if not rows:
        return 0
    statement = delete(table).where(*(table.c[name] == bindparam(f"of_{name}") for name in names))
    conn.execute(statement, [{f"of_{name}": getattr(row, name) for name in names} for row in rows])
    return len(rows)


def _moment(row: Any) -> Moment | None:
    return None if row is None else Moment(**dict(row._mapping))

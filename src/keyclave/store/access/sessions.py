"""Sessions and ceremonies as records. Of a token only the digest is kept; a step-up replaces it: the old one opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError

from keyclave.identity.roles import Role
from keyclave.store import schema as s
from keyclave.store.access.session_tables import ceremonies, sessions


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session, as the store keeps it. Times in microseconds; `idle_seconds` is how long it lives without a request.

    `role` is the duty of its principal. `enrolling`: it is good for nothing but enrolling an authenticator; `invitation`: the
    one it came from.
    """

    id: str
    tenant: str
    principal: str
    role: Role
    aal: int
    how: str
    authenticator: str = ""
    enrolling: bool = False
    invitation: str = ""
    source: str
    created_at: int
    expires_at: int
    idle_seconds: int
    seen_at: int
    stepped_up_at: int
    revoked_at: int | None = None

    def live(self, now: int) -> bool:
        """Tell whether it is neither revoked nor at one of its ends."""
        idle = now - self.seen_at >= self.idle_seconds * 1_000_000
        return self.revoked_at is None and now < self.expires_at and not idle


_SESSIONS = select(*(c for c in sessions.c if c.name != "digest"), s.principals.c.role).join(
    s.principals, (s.principals.c.tenant == sessions.c.tenant) & (s.principals.c.name == sessions.c.principal)
)
_BY_DIGEST = _SESSIONS.where(
    sessions.c.digest == bindparam("digest"), sessions.c.revoked_at.is_(None), s.principals.c.disabled_at.is_(None)
)


def insert_session(conn: Connection, session: Session, digest: bytes) -> None:
    """Keep a session by the digest of its token."""
    row = msgspec.structs.asdict(session)
    del row["role"]
    conn.execute(sessions.insert(), row | {"digest": digest})


def find_session(conn: Connection, digest: bytes) -> Session | None:
    """Return the session whose token has this digest, if neither it is revoked nor its principal disabled; else None."""
    row = conn.execute(_BY_DIGEST, {"digest": digest}).first()
    return None if row is None else _session(row)


def read_session(conn: Connection, tenant: str, session: str) -> Session | None:
    """Return the session of that id within the tenant, live or not, or None."""
    row = conn.execute(_SESSIONS.where(sessions.c.tenant == tenant, sessions.c.id == session)).first()
    return None if row is None else _session(row)


def list_sessions(conn: Connection, tenant: str, principal: str, after: str, limit: int) -> list[Session]:
    """Return sessions not revoked, by id after `after`; of one principal, or of all where it is empty."""
    c = sessions.c
    query = _SESSIONS.where(c.tenant == tenant, c.id > after, c.revoked_at.is_(None)).order_by(c.id).limit(limit)
    if principal:
        query = query.where(c.principal == principal)
    return [_session(row) for row in conn.execute(query)]


def replace_token(conn: Connection, session: Session, digest: bytes) -> bool:
    """Write a session that was stepped up, under its new token; False where it is revoked meanwhile."""
    c = sessions.c
    values = {
        "digest": digest, "aal": session.aal, "how": session.how, "authenticator": session.authenticator,
        "expires_at": session.expires_at, "idle_seconds": session.idle_seconds, "seen_at": session.seen_at,
        "stepped_up_at": session.stepped_up_at,
    }  # fmt: skip
    return conn.execute(update(sessions).where(c.id == session.id, c.revoked_at.is_(None)).values(**values)).rowcount == 1


def revoke_session(conn: Connection, session: str, at: int) -> None:
    """Revoke; a second time changes nothing."""
    c = sessions.c
    conn.execute(update(sessions).where(c.id == session, c.revoked_at.is_(None)).values(revoked_at=at))


def revoke_sessions(conn: Connection, tenant: str, principal: str, at: int, *, but: str = "", how: str = "") -> int:
    """Revoke every session of a principal, `but` one, or only those of one authenticator (`how` is its id). Return how many."""
    c = sessions.c
    statement = update(sessions).where(c.tenant == tenant, c.principal == principal, c.revoked_at.is_(None), c.id != but)
    if how:
        statement = statement.where(c.authenticator == how)
    return conn.execute(statement.values(revoked_at=at)).rowcount


def revoke_invited(conn: Connection, invitation: str, at: int, *, but: str) -> None:
    """Revoke the sessions that came from an invitation, `but` the one that used it."""
    c = sessions.c
    conn.execute(update(sessions).where(c.invitation == invitation, c.id != but, c.revoked_at.is_(None)).values(revoked_at=at))


def keep_seen(conn: Connection, seen: Mapping[str, int]) -> None:
    """Write when sessions were last used, by id: coarsely, so a restart ends an idle session rather sooner than later."""
    if seen:
        statement = update(sessions).where(sessions.c.id == bindparam("session")).values(seen_at=bindparam("at"))
        conn.execute(statement, [{"session": session, "at": at} for session, at in seen.items()])


def _session(row: Any) -> Session:
    return Session(**dict(row._mapping) | {"role": Role(row.role)})


# ---- ceremonies -----------------------------------------------------------------------------------------------------------
def open_ceremony(conn: Connection, digest: bytes, kind: str, tenant: str, payload: str, at: int, expires_at: int) -> bool:
    """Keep a ceremony by the digest of its text until it is taken or over; False where this digest is there already.

    Those that are over are dropped on the way.
    """
    conn.execute(delete(ceremonies).where(ceremonies.c.expires_at <= at))
    row = {"digest": digest, "kind": kind, "tenant": tenant, "payload": payload, "expires_at": expires_at}
    try:
        conn.execute(ceremonies.insert(), row)
    except IntegrityError:
        return False
    return True


def read_ceremony(conn: Connection, digest: bytes, kind: str, now: int) -> str | None:
    """Return the payload of a ceremony that is not over, without taking it; None where there is none of this kind."""
    c = ceremonies.c
    query = select(c.payload).where(c.digest == digest, c.kind == kind, c.expires_at > now)
    return conn.execute(query).scalar_one_or_none()


def take_ceremony(conn: Connection, digest: bytes, kind: str, now: int) -> str | None:
    """Return the payload of a ceremony and drop it: of two that ask, one gets it. None where there is none, or it is over."""
    payload = read_ceremony(conn, digest, kind, now)
    taken = conn.execute(delete(ceremonies).where(ceremonies.c.digest == digest, ceremonies.c.kind == kind)).rowcount
    return payload if taken == 1 else None

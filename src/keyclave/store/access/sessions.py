"""Sessions, and the ceremonies that were finished, as records.

Of a token only the digest is kept; a step-up replaces it: the old one opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select, text, update

from keyclave.identity.roles import Role
from keyclave.store import schema as s
from keyclave.store.access.session_tables import sessions


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


def read_seen(conn: Connection, session: str) -> int:
    """Return when a session that is not revoked was last used, as far as any node has written; 0 for one that is, or is none."""
    c = sessions.c
    return conn.execute(select(c.seen_at).where(c.id == session, c.revoked_at.is_(None))).scalar_one_or_none() or 0


def places_of(conn: Connection, tenant: str, principal: str, since: int) -> set[str]:
    """Return the addresses from which a principal opened sessions since a time."""
    c = sessions.c
    query = select(c.source).distinct().where(c.tenant == tenant, c.principal == principal, c.created_at >= since)
    return set(conn.execute(query).scalars())


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
    """Write when sessions were last used, by id: coarsely, so a restart ends an idle session rather sooner than later.

    An earlier time than the one that is there, from a node that writes later, changes nothing.
    """
    if seen:
        c = sessions.c
        statement = (
            update(sessions).where(c.id == bindparam("session"), c.seen_at < bindparam("at")).values(seen_at=bindparam("at"))
        )
        conn.execute(statement, [{"session": session, "at": at} for session, at in seen.items()])


def _session(row: Any) -> Session:
    return Session(**dict(row._mapping) | {"role": Role(row.role)})


# ---- ceremonies -----------------------------------------------------------------------------------------------------------
_SPEND = text(
    "INSERT INTO ceremonies (digest, kind, tenant, payload, expires_at) VALUES (:digest, :kind, :tenant, 'spent', :expires_at) "
    "ON CONFLICT DO NOTHING"
)


def spend_ceremony(conn: Connection, digest: bytes, kind: str, tenant: str, expires_at: int) -> bool:
    """Write down that the ceremony whose text has this digest was finished; False where it was before, on whatever node."""
    row = {"digest": digest, "kind": kind, "tenant": tenant, "expires_at": expires_at}
    return conn.execute(_SPEND, row).rowcount == 1

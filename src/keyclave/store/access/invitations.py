"""Invitations as records. A token is kept as its digest alone; confirming and using are changes that can happen once."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from keyclave.identity.roles import Role
from keyclave.store.access.people_tables import invitations

_decode = msgspec.json.Decoder(tuple[str, ...]).decode


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation, as the store keeps it. Times in microseconds. `confirmed_by`: a second person, or an approval's id."""

    id: str
    tenant: str
    principal: str
    role: Role
    roles: tuple[str, ...]
    invited_by: str
    invited_at: int
    expires_at: int
    confirmed_by: str | None = None
    confirmed_at: int | None = None
    used_at: int | None = None
    revoked_at: int | None = None

    def open(self, now: int) -> bool:
        """Tell whether it can be used."""
        return self.confirmed_at is not None and self.used_at is None and self.revoked_at is None and now < self.expires_at

    def state(self, now: int) -> str:
        """Return how it stands, in one word: used, revoked, expired, waiting (for a second person) or open."""
        if self.used_at is not None:
            return "used"
        if self.revoked_at is not None:
            return "revoked"
        if now >= self.expires_at:
            return "expired"
        return "waiting" if self.confirmed_at is None else "open"


def insert_invitation(conn: Connection, invitation: Invitation, digest: bytes) -> None:
    """Keep an invitation by the digest of its token."""
    row = msgspec.structs.asdict(invitation) | {"role": invitation.role.value, "digest": digest}
    conn.execute(invitations.insert(), row | {"roles": msgspec.json.encode(invitation.roles).decode()})


def find_invitation(conn: Connection, digest: bytes) -> Invitation | None:
    """Return the invitation whose token has this digest, or None."""
    row = conn.execute(select(invitations).where(invitations.c.digest == digest)).first()
    return None if row is None else _invitation(row)


def read_invitation(conn: Connection, tenant: str, invitation: str) -> Invitation | None:
    """Return the invitation of that id within the tenant, or None."""
    c = invitations.c
    row = conn.execute(select(invitations).where(c.tenant == tenant, c.id == invitation)).first()
    return None if row is None else _invitation(row)


def open_invitation_of(conn: Connection, tenant: str, principal: str, now: int) -> Invitation | None:
    """Return a principal's invitation that can be used now, or None: for identities that another house vouches for."""
    c = invitations.c
    rows = conn.execute(select(invitations).where(c.tenant == tenant, c.principal == principal).order_by(c.invited_at.desc()))
    return next((found for found in map(_invitation, rows) if found.open(now)), None)


def list_invitations(conn: Connection, tenant: str, after: str, limit: int) -> list[Invitation]:
    """Return invitations of a tenant by id after `after`."""
    c = invitations.c
    query = select(invitations).where(c.tenant == tenant, c.id > after).order_by(c.id).limit(limit)
    return [_invitation(row) for row in conn.execute(query)]


def confirm_invitation(conn: Connection, invitation: str, by: str, at: int) -> bool:
    """Confirm; False where somebody did already, or it was revoked."""
    c = invitations.c
    statement = update(invitations).where(c.id == invitation, c.confirmed_at.is_(None), c.revoked_at.is_(None))
    return conn.execute(statement.values(confirmed_by=by, confirmed_at=at)).rowcount == 1


def use_invitation(conn: Connection, invitation: str, at: int) -> bool:
    """Use it up; False where it can no longer be used."""
    c = invitations.c
    still = (c.id == invitation, c.used_at.is_(None), c.revoked_at.is_(None), c.confirmed_at.is_not(None), c.expires_at > at)
    return conn.execute(update(invitations).where(*still).values(used_at=at)).rowcount == 1


def revoke_invitation(conn: Connection, invitation: str, at: int) -> bool:
    """Revoke; False where it was used or revoked before."""
    c = invitations.c
    statement = update(invitations).where(c.id == invitation, c.used_at.is_(None), c.revoked_at.is_(None))
    return conn.execute(statement.values(revoked_at=at)).rowcount == 1


def _invitation(row: Row[Any]) -> Invitation:
    fields = {name: value for name, value in row._mapping.items() if name != "digest"}
    return Invitation(**fields | {"role": Role(row.role), "roles": _decode(row.roles)})

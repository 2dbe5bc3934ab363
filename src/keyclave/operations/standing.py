"""What is known of a caller beyond the credential: every way of presenting oneself passes here on its way to a Caller.

Read once and kept in memory with the caller, until something of it changes or ends.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from keyclave.identity.caller import Caller, Credential, Standing
from keyclave.identity.roles import Role
from keyclave.store.access.elevations import live_elevation
from keyclave.store.access.grants import held_grants


def stand(conn: Connection, credential: Credential, standing: Standing | None, now: int) -> tuple[Credential, Standing]:
    """Return the credential and standing with the role that was taken on for a while and what the principal was granted.

    `standing` is what the way of presenting oneself knows already (assurance level, method); None for a bearer token.
    """
    standing = standing or Caller(credential).standing
    ends = [standing.until] if standing.until else []
    elevation = live_elevation(conn, credential.id, now)
    if elevation is not None:
        ends.append(elevation.ends_at)
        credential = msgspec.structs.replace(credential, role=Role(elevation.duty))
        roles = tuple(dict.fromkeys((*standing.roles, elevation.role)))
        standing = msgspec.structs.replace(standing, elevation=elevation.id, reach=elevation.reach, roles=roles)
    grants = held_grants(conn, credential.tenant, credential.principal, now)
    ends += [grant.expires_at for grant in grants]
    return credential, msgspec.structs.replace(standing, grants=grants, until=min(ends, default=0))

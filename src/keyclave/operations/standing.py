"""What is known of a caller beyond the credential: every way of presenting oneself passes here on its way to a Caller.

Read once and kept in memory with the caller, until something of it changes or ends.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from keyclave.identity.caller import Caller, Credential, Standing
from keyclave.store.access.grants import held_grants


def stand(conn: Connection, credential: Credential, standing: Standing | None, now: int) -> tuple[Credential, Standing]:
    """Return the credential and standing with what the principal was granted.

    `standing` is what the way of presenting oneself knows already (assurance level, method); None for a bearer token.
    """
    standing = standing or Caller(credential).standing
    grants = held_grants(conn, credential.tenant, credential.principal, now)
    ends = [grant.expires_at for grant in grants] + ([standing.until] if standing.until else [])
    return credential, msgspec.structs.replace(standing, grants=grants, until=min(ends, default=0))

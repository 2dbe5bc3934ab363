"""A caller: the live answer to "who asks", as kept in memory between requests."""

from __future__ import annotations

import msgspec

from keyclave.identity.roles import Role
from keyclave.identity.scope import Scope


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer credential as the store keeps it: the token itself is nowhere, only its SHA-256. Times in microseconds."""

    id: str
    tenant: str
    principal: str
    role: Role
    scope: Scope | None
    created_at: int
    created_by: str
    expires_at: int
    revoked_at: int | None = None

    def live(self, now: int) -> bool:
        """Tell whether it is neither revoked nor expired."""
        return self.revoked_at is None and now < self.expires_at


class Caller:
    """A credential together with the decisions already made for it. Dropped whole when the credential changes."""

    __slots__ = ("allowed", "credential", "expires_at", "id", "live", "principal", "role", "scope", "tenant")

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        self.id = credential.id
        self.tenant = credential.tenant
        self.principal = credential.principal
        self.role = credential.role
        self.scope = credential.scope
        self.expires_at = credential.expires_at
        self.live = True  # until the credential changes: whoever still holds this object must look again
        self.allowed: dict[tuple[str, str], bool] = {}

"""A caller: the live answer to "who asks", as kept in memory between requests.

Every way of presenting oneself (bearer token, session, client certificate, bound token) ends in one `Caller`: a credential (what
is presented, with its end) and a standing (what is known of who presents it). The rooms above ask nothing else.
"""

from __future__ import annotations

from typing import Any

import msgspec

from keyclave.identity.elevation import Reach
from keyclave.identity.grants import Grant
from keyclave.identity.roles import Role
from keyclave.identity.scope import Scope


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What was presented, as the store keeps it: a secret itself is nowhere, only its SHA-256. Times in microseconds.

    The id says what it is: `crd_` a bearer credential, `ses_` a session, `crt_` a certificate.
    """

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


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a caller beyond the credential.

    `aal`: assurance level 1-3 (SP 800-63B-4). `how`: the method, as the log shows it (`passkey`, `totp`, `oidc`, `mtls`, …; empty
    for a bearer token). `roles`: names of every role held now, custom and elevated ones too, the duty among them.
    `stepped_up_at`: when the caller last proved presence, microseconds. `thumbprint`: SHA-256 of the client certificate that must
    come with the credential (RFC 8705), or empty. `grants`: live grants to the principal. `elevation`: id of the elevation that
    gives the role, or empty; `reach`: what it reaches, if it is break-glass. `until`: when the first of all this ends and must be
    looked up again, microseconds (0: with the credential). `enrolling`: the session is good for nothing but enrolling an
    authenticator. `only`: the operations that this way of presenting oneself is good for; empty for all.
    """

    aal: int = 1
    elevation: str = ""
    enrolling: bool = False
    grants: tuple[Grant, ...] = ()
    how: str = ""
    only: tuple[str, ...] = ()
    person: bool = False
    reach: Reach | None = None
    roles: tuple[str, ...] = ()
    stepped_up_at: int = 0
    thumbprint: bytes = b""
    until: int = 0


class Caller:
    """A credential and a standing together with the decisions already made for them. Dropped whole when either changes."""

    __slots__ = (
        "allowed", "credential", "digest", "expires_at", "id", "live", "meter", "principal", "revision", "role", "scope",
        "standing", "tenant",
    )  # fmt: skip

    def __init__(self, credential: Credential, standing: Standing | None = None) -> None:
        self.credential = credential
        self.id = credential.id
        self.tenant = credential.tenant
        self.principal = credential.principal
        self.role = credential.role
        self.scope = credential.scope
        self.standing = standing or Standing(person=credential.role is not Role.APPLICATION, roles=(credential.role.value,))
        until = self.standing.until
        self.expires_at = min(credential.expires_at, until) if until else credential.expires_at
        self.digest: bytes | None = None  # of what was presented, where it is kept in memory
        self.live = True  # until the credential changes: whoever still holds this object must look again
        self.meter: Any = None  # what the principal has used of its limits
        self.revision: object = None  # the policy revision under which `allowed` was decided
        self.allowed: dict[Any, Any] = {}

"""What the server says about people, their authenticators and sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation. `state`: waiting (for a second person), open, used, expired, revoked. `token` is there once."""

    id: str
    principal: str
    role: str
    state: str
    roles: tuple[str, ...] = ()
    invited_by: str | None = None
    invited_at: str | None = None
    expires_at: str | None = None
    confirmed_by: str | None = None
    token: str | None = field(default=None, repr=False)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """A person: duty, further roles, how many authenticators of each kind."""

    principal: str
    role: str
    roles: tuple[str, ...] = ()
    created_at: str | None = None
    disabled_at: str | None = None
    authenticators: Mapping[str, int] = field(default_factory=dict)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Authenticator:
    """What somebody proves themselves with; `aal` is what it can prove (SP 800-63B), `synced` whether it may be copied."""

    id: str
    principal: str
    kind: str
    aal: int
    label: str | None = None
    synced: bool = False
    aaguid: str | None = None
    public_sha256: str | None = None
    enrolled_at: str | None = None
    used_at: str | None = None
    revoked_at: str | None = None
    revoked_why: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Authenticators:
    """All of somebody's, revoked ones too, and how many recovery codes are left."""

    authenticators: tuple[Authenticator, ...] = field(default=(), metadata={"each": Authenticator})
    recovery_codes: int = 0


@dataclass(frozen=True, slots=True)
class RecoveryCodes:
    """Ten codes, each good once. They do not print."""

    authenticator: str
    codes: tuple[str, ...] = field(repr=False)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A live session; `current` is the one that asked."""

    id: str
    principal: str
    aal: int
    how: str
    source: str | None = None
    created_at: str | None = None
    seen_at: str | None = None
    stepped_up_at: str | None = None
    expires_at: str | None = None
    idle_seconds: int | None = None
    current: bool = False


@dataclass(frozen=True, slots=True)
class KeyEnrolment:
    """The statement that a key signs to be enrolled, byte for byte."""

    ceremony: str
    statement: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How many sessions ended."""

    ended: int

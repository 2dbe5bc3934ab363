"""The key model: what is known of a key and of each of its versions. Descriptions only; no field can hold key material.

Wrapped material is its own type (`WrappedMaterial`) that never leaves the floors below operations, so that a list, a report or
an answer cannot contain it by mistake.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.core.limits import PRINTABLE
from keyclave.keys.states import GONE, State

DAY = 86_400 * 1_000_000  # microseconds
LONGEST_DAYS = 30 * 365


class Cryptoperiod(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """How long a version may protect (originator-usage period) and process (recipient-usage period), in days from activation."""

    protect_days: int
    process_days: int


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """When a new version is due: every so many days. `reason` records why it differs from the default."""

    every_days: Annotated[int, Meta(ge=1, le=LONGEST_DAYS)]
    reason: Annotated[str, Meta(max_length=limits.REASON, pattern=PRINTABLE)] = ""


class Stale(enum.StrEnum):
    """Whether a node may decrypt with the key while it is cut off from the database (spec/nodes.md): never allowed, allowed now,
    or allowed once. The third is not the first: a node that was cut off meanwhile may still hold the key as it was."""

    NEVER = "never"
    ALLOWED = "allowed"
    ENDED = "ended"


class Version(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One key version. Times are microseconds since the epoch."""

    number: int
    state: State
    origin: str  # generated | imported
    kcv: str  # key-check value: confirms the material without disclosing it
    created_at: int
    activated_at: int | None = None
    suspended_at: int | None = None
    deactivated_at: int | None = None
    archived_at: int | None = None
    compromised_at: int | None = None
    destroy_at: int | None = None  # destruction is scheduled for then
    destroy_by: str | None = None  # the principal who scheduled it: another one performs it
    destroyed_at: int | None = None
    public: bytes | None = None  # SubjectPublicKeyInfo DER of asymmetric keys

    @property
    def scheduled(self) -> bool:
        """Tell whether destruction is scheduled."""
        return self.destroy_at is not None and self.state not in GONE


class Key(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A key as its users name it: what it is for, whose it is, and its versions in order (R13)."""

    id: str
    tenant: str
    name: str
    spec: str
    purpose: str
    owner: str
    environment: str
    classification: str
    location: str
    tags: dict[str, str]
    cryptoperiod: Cryptoperiod
    rotation: Rotation | None
    created_at: int
    created_by: str
    primary: int | None
    rev: int
    stale: Stale = Stale.NEVER
    versions: tuple[Version, ...] = ()

    @property
    def stale_ok(self) -> bool:
        """Tell whether a node that is cut off from the database may decrypt with it."""
        return self.stale is Stale.ALLOWED

    def allowing_stale(self, wanted: bool) -> Stale:
        """Return what `stale` becomes when it is allowed or not: what was allowed once is never again as if it had not been."""
        if wanted:
            return Stale.ALLOWED
        return Stale.NEVER if self.stale is Stale.NEVER else Stale.ENDED

    def version(self, number: int) -> Version | None:
        """Return the version of that number, or None."""
        if 1 <= number <= len(self.versions):
            return self.versions[number - 1]
        return None

    def protect_until(self, version: Version) -> int | None:
        """Return when `version` stops protecting, or None while it is not active."""
        return None if version.activated_at is None else version.activated_at + self.cryptoperiod.protect_days * DAY

    def process_until(self, version: Version) -> int | None:
        """Return when `version` stops processing (end of the recipient-usage period)."""
        return None if version.activated_at is None else version.activated_at + self.cryptoperiod.process_days * DAY


class WrappedMaterial(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A version's material, sealed under its tenant's key with its own identity as authenticated context."""

    key: str
    number: int
    sealed: bytes
    archived: bool

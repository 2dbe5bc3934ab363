"""What the server says about keys, credentials, itself and its record: metadata only, no field for key material."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyclave_client.answers import BASE64


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of a key: its state, its dates (RFC 3339, UTC), its key-check value, where it came from, what may follow."""

    version: int
    state: str
    primary: bool = False
    created_at: str | None = None
    activated_at: str | None = None
    protect_until: str | None = None
    process_until: str | None = None
    suspended_at: str | None = None
    deactivated_at: str | None = None
    archived_at: str | None = None
    compromised_at: str | None = None
    destroy_at: str | None = None
    destroy_by: str | None = None
    destroyed_at: str | None = None
    moves: tuple[str, ...] = ()
    kcv: str | None = None
    origin: str | None = None
    public_key: str | None = None


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key without its material. `rev` is what If-Match takes; `primary` is the version that protects, if there is one."""

    id: str
    name: str
    spec: str
    purpose: str
    owner: str | None = None
    environment: str | None = None
    classification: str | None = None
    location: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    cryptoperiod: Mapping[str, Any] = field(default_factory=dict)
    rotation: Mapping[str, Any] = field(default_factory=dict)
    created_at: str | None = None
    created_by: str | None = None
    primary: int | None = None
    rev: int | None = None
    stale_ok: bool = False
    versions: tuple[KeyVersion, ...] = field(default=(), metadata={"each": KeyVersion})
    event: str | None = None


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key version, PEM."""

    public_key: str
    version: int
    spec: str


@dataclass(frozen=True, slots=True)
class ImportParameters:
    """How to wrap key material for import: a one-time token and an RSA public key (PEM)."""

    token: str = field(repr=False)
    wrapping_key: str
    algorithm: str
    expires_at: str | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential. `token` is there once, in the answer that issued it, and does not print."""

    id: str
    principal: str | None = None
    role: str | None = None
    created_at: str | None = None
    created_by: str | None = None
    expires_at: str | None = None
    revoked_at: str | None = None
    scope: Mapping[str, Any] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload that may call by a certificate, and what it may do."""

    id: str
    name: str
    scope: Mapping[str, Any] = field(default_factory=dict)
    created_at: str | None = None
    created_by: str | None = None
    disabled_at: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A right to certificates. `token` is there once, in the answer that made it, and does not print."""

    id: str
    name: str
    uses: int
    used: int = 0
    created_at: str | None = None
    created_by: str | None = None
    expires_at: str | None = None
    revoked_at: str | None = None
    token: str | None = field(default=None, repr=False)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A workload's certificate. `certificate` and `authority_certificate` (PEM) are there in the answer that issued it."""

    id: str
    name: str
    serial: str | None = None
    source: str | None = None
    authority: str | None = None
    not_before: str | None = None
    not_after: str | None = None
    revoked_at: str | None = None
    certificate: str | None = None
    authority_certificate: str | None = None
    renew_after: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Authority:
    """A tenant's certificate authority."""

    id: str
    number: int
    trust_domain: str
    certificate: str
    not_after: str | None = None
    created_at: str | None = None
    created_by: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class FirstCredential:
    """One of the credentials a new tenant starts with."""

    principal: str
    role: str
    token: str = field(repr=False)
    id: str | None = None
    expires_at: str | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A new tenant and the credentials of its first people."""

    tenant: str
    name: str | None = None
    credentials: tuple[FirstCredential, ...] = field(default=(), metadata={"each": FirstCredential})
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Whoami:
    """Who the server thinks is asking."""

    principal: str
    role: str
    tenant: str | None = None
    credential: str | None = None
    expires_at: str | None = None
    scope: Mapping[str, Any] = field(default_factory=dict)
    aal: int = 1
    how: str = ""
    roles: tuple[str, ...] = ()
    stepped_up_at: str | None = None
    enrolling: bool = False
    elevation: Mapping[str, Any] | None = None
    alarms: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The server's short account of itself."""

    version: str
    sealed: bool
    why_sealed: str = ""
    development: bool = False
    people: str = "passkeys"
    unseal: Mapping[str, Any] = field(default_factory=dict)
    module: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The cryptographic module that computed every known answer, and when."""

    name: str
    version: str
    tested_at: str
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Unsealing:
    """How far an unsealing has come."""

    sealed: bool
    threshold: int
    received: int


@dataclass(frozen=True, slots=True)
class ShareHolder:
    """Who was named as the holder of a share of the root's recovery key. `record` is the id of the event."""

    share: int
    principal: str
    since: str
    named_by: str
    approval: str = ""
    record: str = ""


@dataclass(frozen=True, slots=True)
class ShareHolders:
    """Who holds which share now, for which numbers nobody was named, and every naming in order."""

    set_id: str
    threshold: int
    shares: int | None = None
    holders: tuple[ShareHolder, ...] = field(default=(), metadata={"each": ShareHolder})
    unnamed: tuple[int, ...] = ()
    history: tuple[ShareHolder, ...] = field(default=(), metadata={"each": ShareHolder})


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The log's name and its verifier keys, as C2SP vkey strings."""

    origin: str
    vkeys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """One event, its exact leaf bytes and its inclusion proof (C2SP tlog-proof text): verifiable offline."""

    event: str
    index: int
    leaf: bytes = field(metadata=BASE64)
    proof: str


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of the record at its place in the log: the fields of the leaf, of which `Receipt.leaf` has the exact bytes."""

    index: int
    leaf: Mapping[str, Any]

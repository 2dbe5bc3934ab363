"""A key as callers see it: everything but the material, which no field here could hold."""

from __future__ import annotations

import msgspec

from keyclave.core.clock import to_text
from keyclave.crypto.public import to_pem
from keyclave.keys.model import Cryptoperiod, Key, Rotation, Version
from keyclave.keys.states import GONE
from keyclave.keys.transitions import Move, possible
from keyclave.operations.forms import Answer


class VersionView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One version. Times are RFC 3339."""

    version: int
    state: str
    primary: bool
    origin: str
    kcv: str
    created_at: str
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
    public_key: str | None = None
    moves: list[str] = []


class KeyView(Answer, kw_only=True):
    """A key and its versions; `rev` is what If-Match takes."""

    id: str
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
    created_at: str
    created_by: str
    primary: int | None
    rev: int
    versions: list[VersionView]


def view(key: Key) -> KeyView:
    """Describe a key."""
    return KeyView(
        id=key.id,
        name=key.name,
        spec=key.spec,
        purpose=key.purpose,
        owner=key.owner,
        environment=key.environment,
        classification=key.classification,
        location=key.location,
        tags=key.tags,
        cryptoperiod=key.cryptoperiod,
        rotation=key.rotation,
        created_at=to_text(key.created_at),
        created_by=key.created_by,
        primary=key.primary,
        rev=key.rev,
        versions=[_version(key, v) for v in key.versions],
    )


def _version(key: Key, v: Version) -> VersionView:
    gone = v.state in GONE
    return VersionView(
        version=v.number,
        state=v.state.value,
        primary=v.number == key.primary,
        origin=v.origin,
        kcv=v.kcv,
        created_at=to_text(v.created_at),
        activated_at=_text(v.activated_at),
        protect_until=None if gone else _text(key.protect_until(v)),
        process_until=None if gone else _text(key.process_until(v)),
        suspended_at=_text(v.suspended_at),
        deactivated_at=_text(v.deactivated_at),
        archived_at=_text(v.archived_at),
        compromised_at=_text(v.compromised_at),
        destroy_at=_text(v.destroy_at),
        destroy_by=v.destroy_by,
        destroyed_at=_text(v.destroyed_at),
        public_key=None if v.public is None else to_pem(v.public),
        moves=[m.value for m in possible(v.state) if m is not Move.SUPERSEDE],
    )


def _text(at: int | None) -> str | None:
    return None if at is None else to_text(at)

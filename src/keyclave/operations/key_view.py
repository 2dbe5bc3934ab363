"""A key as callers see it: everything but the material, which no field here could hold."""

from __future__ import annotations

import msgspec

from keyclave.core.clock import to_text
from keyclave.crypto.public import to_pem
from keyclave.keys.model import Cryptoperiod, Key, Rotation, Version
from keyclave.keys.states import GONE, State
from keyclave.keys.transitions import Move, possible
from keyclave.operations.forms import Answer


class VersionView(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
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
    stale_ok: bool
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
        stale_ok=key.stale_ok,
        versions=[_version(key, v) for v in key.versions],
    )


_MOVES = {state: [move.value for move in possible(state) if move is not Move.SUPERSEDE] for state in State}


def _version(key: Key, v: Version) -> VersionView:
    """Describe a version; what it has no date for is left out."""
    shown = VersionView(
        version=v.number,
        state=v.state.value,
        primary=v.number == key.primary,
        origin=v.origin,
        kcv=v.kcv,
        created_at=to_text(v.created_at),
        destroy_by=v.destroy_by,
        public_key=None if v.public is None else to_pem(v.public),
        moves=_MOVES[v.state],
    )
    for name in _DATES:
        at = getattr(v, name)
        if at is not None:
            setattr(shown, name, to_text(at))
    if v.activated_at is not None and v.state not in GONE:
        shown.protect_until = _text(key.protect_until(v))
        shown.process_until = _text(key.process_until(v))
    return shown


_DATES = (
    "activated_at", "suspended_at", "deactivated_at", "archived_at", "compromised_at", "destroy_at", "destroyed_at",
)  # fmt: skip


def _text(at: int | None) -> str | None:
    return None if at is None else to_text(at)

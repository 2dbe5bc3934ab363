"""Keys and their versions: rows to records and back, by prebuilt statements that serve every engine. No rule is decided here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, func, select, update
from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import Broken, Conflict, StaleRevision
from keyclave.keys.model import Cryptoperiod, Key, Rotation, Stale, Version, WrappedMaterial
from keyclave.keys.states import State
from keyclave.store import schema as s
from keyclave.store.insertions import Insertion, Rows
from keyclave.store.insertions import Row as NewRow
from keyclave.store.prepared import Prepared

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder(order="sorted").encode

_KEY_BY_ID = select(s.keys).where(s.keys.c.tenant == bindparam("tenant"), s.keys.c.id == bindparam("ref"))
_KEY_BY_NAME = select(s.keys).where(s.keys.c.tenant == bindparam("tenant"), s.keys.c.name == bindparam("ref"))
_VERSION_COLUMNS = [c for c in s.key_versions.c if c.name not in ("sealed", "used")]
_VERSIONS = select(*_VERSION_COLUMNS).where(s.key_versions.c.key_id == bindparam("key_id")).order_by(s.key_versions.c.number)
_MATERIAL = select(*(s.key_versions.c[name] for name in ("key_id", "number", "sealed", "state", "used"))).where(
    s.key_versions.c.key_id == bindparam("key_id"), s.key_versions.c.number == bindparam("number")
)
_KEY = (
    "id", "tenant", "name", "spec", "purpose", "owner", "environment", "classification", "location", "tags", "cryptoperiod",
    "rotation", "created_at", "created_by", "rev", "stale", "made_in",
)  # fmt: skip
_NEW_VERSION = ("key_id", "number", "is_primary", "state", "origin", "kcv", "created_at", "activated_at", "public", "sealed")
_INSERT_KEY = Insertion(s.keys, _KEY)
_INSERT_VERSION = Insertion(s.key_versions, _NEW_VERSION)
_OWN = {"id", "name", "made_in", "key_id", "kcv", "created_at", "activated_at", "sealed"}  # of keys that are otherwise alike
_INSERT_KEY_ALIKE = Insertion(s.keys, ("id", "name", "created_at", "made_in"), [name for name in _KEY if name not in _OWN])
_INSERT_VERSION_ALIKE = Insertion(
    s.key_versions,
    ("key_id", "kcv", "created_at", "activated_at", "sealed"),
    [name for name in _NEW_VERSION if name not in _OWN],
)


def _version(row: Row[Any]) -> Version:
    return Version(
        number=row.number,
        state=State(row.state),
        origin=row.origin,
        kcv=row.kcv,
        created_at=row.created_at,
        activated_at=row.activated_at,
        suspended_at=row.suspended_at,
        deactivated_at=row.deactivated_at,
        archived_at=row.archived_at,
        compromised_at=row.compromised_at,
        destroy_at=row.destroy_at,
        destroy_by=row.destroy_by,
        destroyed_at=row.destroyed_at,
        public=row.public,
    )


def _key(row: Row[Any], versions: list[Row[Any]]) -> Key:
    return Key(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        spec=row.spec,
        purpose=row.purpose,
        owner=row.owner,
        environment=row.environment,
        classification=row.classification,
        location=row.location,
        tags=_decode(row.tags, type=dict[str, str]),
        cryptoperiod=_decode(row.cryptoperiod, type=Cryptoperiod),
        rotation=None if row.rotation is None else _decode(row.rotation, type=Rotation),
        created_at=row.created_at,
        created_by=row.created_by,
        primary=next((v.number for v in versions if v.is_primary), None),
        rev=row.rev,
        stale=Stale(row.stale),
        versions=tuple(_version(v) for v in versions),
    )


def read_key(conn: Connection, tenant: str, ref: str) -> Key | None:
    """Return the key of that id or name within the tenant, or None."""
    statement = _KEY_BY_ID if ref.startswith("key_") else _KEY_BY_NAME
    row = conn.execute(statement, {"tenant": tenant, "ref": ref}).first()
    return None if row is None else _key(row, list(conn.execute(_VERSIONS, {"key_id": row.id})))


def list_keys(conn: Connection, tenant: str, after: str, limit: int, name: str | None, state: State | None) -> list[Key]:
    """Return keys by name after `after`; `name` is a prefix, `state` one that some version is in."""
    query = select(s.keys).where(s.keys.c.tenant == tenant, s.keys.c.name > after).order_by(s.keys.c.name).limit(limit)
    if name:
        query = query.where(func.substr(s.keys.c.name, 1, len(name)) == name)
    if state:
        v = s.key_versions.c
        query = query.where(select(v.key_id).where(v.key_id == s.keys.c.id, v.state == state.value).exists())
    rows = list(conn.execute(query))
    versions: dict[str, list[Row[Any]]] = {row.id: [] for row in rows}
    numbered = select(*_VERSION_COLUMNS).where(s.key_versions.c.key_id.in_(list(versions)))
    for version in conn.execute(numbered.order_by(s.key_versions.c.key_id, s.key_versions.c.number)):
        versions[version.key_id].append(version)
    return [_key(row, versions[row.id]) for row in rows]


def _metadata(key: Key) -> dict[str, Any]:
    return {
        "owner": key.owner,
        "environment": key.environment,
        "classification": key.classification,
        "tags": _encode(key.tags).decode(),
        "cryptoperiod": _encode(key.cryptoperiod).decode(),
        "rotation": None if key.rotation is None else _encode(key.rotation).decode(),
        "stale": key.stale.value,
    }


def insert_key(conn: Connection, key: Key, material: WrappedMaterial, made_in: str | None = None) -> None:
    """Keep a new key with its first version; `made_in` is the event, if a person makes it.

    A taken name is `Conflict`: the schema says so, without a look beforehand.
    """
    try:
        _INSERT_KEY.run(conn, [_key_row(key, made_in)])
    except IntegrityError:
        raise Conflict(f"a key named {key.name!r} exists", "choose another name, or rotate the key that is there") from None
    insert_version(conn, key, key.versions[0], material)


def insert_version(conn: Connection, key: Key, version: Version, material: WrappedMaterial) -> None:
    """Keep a new version of `key` with its sealed material."""
    _INSERT_VERSION.run(conn, [_version_row(key, version, material.sealed)])


def add_key(rows: Rows, key: Key, material: WrappedMaterial, made_in: str | None) -> None:
    """Let a new key with its first version wait to be kept, otherwise as `insert_key`."""
    rows.add(_INSERT_KEY, _key_row(key, made_in))
    rows.add(_INSERT_VERSION, _version_row(key, key.versions[0], material.sealed))


def _key_row(key: Key, made_in: str | None) -> NewRow:
    """Return a key as a row, as `_INSERT_KEY` takes it."""
    said = _metadata(key)
    return (
        key.id, key.tenant, key.name, key.spec, key.purpose, key.owner, key.environment, key.classification, key.location,
        said["tags"], said["cryptoperiod"], said["rotation"], key.created_at, key.created_by, key.rev, said["stale"],
        made_in,
    )  # fmt: skip


def _version_row(key: Key, version: Version, sealed: bytes) -> NewRow:
    """Return a version as a row, as `_INSERT_VERSION` takes it."""
    return (
        key.id, version.number, key.primary == version.number, version.state.value, version.origin, version.kcv,
        version.created_at, version.activated_at, version.public, sealed,
    )  # fmt: skip


class NewKeyRows:
    """The rows of new keys that differ in nothing but id, name, time, check value and material."""

    __slots__ = ("_active", "_key", "_version")

    def __init__(self, key: Key) -> None:
        """`key` is any of them, as it begins its life."""
        first = key.versions[0]
        self._key = _common(_KEY, _key_row(key, None))
        self._version = _common(_NEW_VERSION, _version_row(key, first, b""))
        self._active = first.activated_at is not None

    def add(self, rows: Rows, key_id: str, name: str, at: int, kcv: str, sealed: bytes, made_in: str | None) -> None:
        """Let those of another one wait to be kept."""
        rows.add(_INSERT_KEY_ALIKE, (key_id, name, at, made_in), self._key)
        rows.add(_INSERT_VERSION_ALIKE, (key_id, kcv, at, at if self._active else None, sealed), self._version)


def _common(columns: tuple[str, ...], row: NewRow) -> NewRow:
    return tuple(value for name, value in zip(columns, row, strict=True) if name not in _OWN)


_TOUCH = Prepared(
    update(s.keys).where(s.keys.c.id == bindparam("key"), s.keys.c.rev == bindparam("expected")).values(rev=bindparam("next"))
)


def update_key(conn: Connection, before: Key, now: Key) -> Key:
    """Compare-and-swap: write what differs between `before` and `now`, and raise the revision by one.

    Whoever changed the key since `before` was read wins: `StaleRevision`.
    """
    if _TOUCH.run(conn, {"key": before.id, "expected": before.rev, "next": before.rev + 1}) != 1:
        raise StaleRevision(
            "the key was changed by somebody else meanwhile", "read it again with `keyclave key show` and repeat the change"
        )
    if _metadata(now) != _metadata(before):
        conn.execute(update(s.keys).where(s.keys.c.id == now.id).values(**_metadata(now)))
    v = s.key_versions.c
    if before.primary != now.primary and before.primary is not None:
        conn.execute(update(s.key_versions).where(v.key_id == now.id, v.number == before.primary).values(is_primary=False))
    for old, new in zip(before.versions, now.versions, strict=False):
        if old != new:
            values = msgspec.structs.asdict(new) | {"state": new.state.value}
            del values["number"]
            if new.destroyed_at is not None:
                values["sealed"] = None  # the tombstone keeps everything but the material
            conn.execute(update(s.key_versions).where(v.key_id == now.id, v.number == new.number).values(**values))
    if before.primary != now.primary and now.primary is not None and now.primary <= len(before.versions):
        conn.execute(update(s.key_versions).where(v.key_id == now.id, v.number == now.primary).values(is_primary=True))
    return msgspec.structs.replace(now, rev=before.rev + 1)


def _material(row: Any) -> WrappedMaterial:
    archived = row.state == State.ARCHIVED.value
    return WrappedMaterial(key=row.key_id, number=row.number, sealed=row.sealed, archived=archived)


def read_material(conn: Connection, key_id: str, number: int) -> tuple[WrappedMaterial, int] | None:
    """Return a version's sealed material and how many uses are already accounted for, or None where there is none."""
    row = conn.execute(_MATERIAL, {"key_id": key_id, "number": number}).first()
    if row is None or row.sealed is None:
        return None
    return _material(row), row.used


def every_key(conn: Connection) -> Iterator[tuple[Key, dict[int, WrappedMaterial]]]:
    """Yield every key of every tenant, with the sealed material of the versions that have any, by number.

    Both tables are read once, side by side, in the order of the ids: there may be more than fit into memory, and a look-up for
    each would rest on what the database knows of tables that were filled a moment ago.
    """
    v = s.key_versions.c
    keys = conn.execute(_streamed(select(s.keys).order_by(s.keys.c.id)))
    versions = conn.execute(_streamed(select(s.key_versions).order_by(v.key_id, v.number)))
    for row, (key_id, group) in zip(keys, groupby(versions, lambda version: version.key_id), strict=True):
        if row.id != key_id:
            raise Broken(f"the versions of {min(row.id, key_id)} are not those of a key", "keep the database as evidence")
        rows = list(group)
        yield _key(row, rows), {one.number: _material(one) for one in rows if one.sealed is not None}


def _streamed(query: Select[Any]) -> Select[Any]:
    return query.execution_options(stream_results=True, yield_per=500)


def replace_material(conn: Connection, material: WrappedMaterial) -> None:
    """Write material that was sealed anew (archive, recover)."""
    v = s.key_versions.c
    statement = update(s.key_versions).where(v.key_id == material.key, v.number == material.number)
    conn.execute(statement.values(sealed=material.sealed))


_RESERVE = Prepared(
    update(s.key_versions)
    .where(s.key_versions.c.key_id == bindparam("key"), s.key_versions.c.number == bindparam("version"))
    .values(used=s.key_versions.c.used + bindparam("block"))
)


_RESERVED = select(s.key_versions.c.used).where(
    s.key_versions.c.key_id == bindparam("key"), s.key_versions.c.number == bindparam("version")
)


def reserve_uses(conn: Connection, key_id: str, number: int, block: int) -> int:
    """Account for `block` further uses of a version, before they happen; return how many are accounted for, by all writers."""
    _RESERVE.run(conn, {"key": key_id, "version": number, "block": block})
    return int(conn.execute(_RESERVED, {"key": key_id, "version": number}).scalar_one())

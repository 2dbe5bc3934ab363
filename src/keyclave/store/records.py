"""Rows to records and back: prebuilt statements that serve every engine. No rule is decided here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, func, select, text, update
from sqlalchemy.exc import IntegrityError

from keyclave.core.errors import Broken, Conflict, StaleRevision
from keyclave.identity.caller import Credential
from keyclave.identity.roles import Role
from keyclave.identity.scope import Scope
from keyclave.keys.model import Cryptoperiod, Key, Rotation, Stale, Version, WrappedMaterial
from keyclave.keys.states import State
from keyclave.store import schema as s
from keyclave.store.prepared import Prepared

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder(order="sorted").encode

# ---- meta -----------------------------------------------------------------------------------------------------------------
_META_GET = select(s.meta.c.value).where(s.meta.c.name == bindparam("name"))
_META_KEEP = text("INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")


def read_meta(conn: Connection, name: str) -> bytes | None:
    """Return a value of the store's own settings, or None."""
    return conn.execute(_META_GET, {"name": name}).scalar_one_or_none()


def write_meta(conn: Connection, name: str, value: bytes) -> None:
    """Keep a setting; one that exists is replaced."""
    if conn.execute(update(s.meta).where(s.meta.c.name == name).values(value=value)).rowcount == 0:
        conn.execute(s.meta.insert(), {"name": name, "value": value})


def keep_meta(conn: Connection, name: str, value: bytes) -> bytes:
    """Keep a setting unless it exists; return what is kept."""
    conn.execute(_META_KEEP, {"name": name, "value": value})
    return bytes(conn.execute(_META_GET, {"name": name}).scalar_one())


# ---- tenants --------------------------------------------------------------------------------------------------------------
def insert_tenant(conn: Connection, tenant: str, name: str, sealed: dict[str, bytes], at: int, *, home: bool) -> None:
    """Keep a tenant and its sealed keys by duty. A taken name is `Conflict`."""
    if conn.execute(select(s.tenants.c.id).where(s.tenants.c.name == name)).first():
        raise Conflict(f"a tenant named {name!r} exists", "choose another name")
    conn.execute(s.tenants.insert(), {"id": tenant, "name": name, "home": home, "created_at": at})
    rows = [{"tenant": tenant, "duty": duty, "sealed": blob, "created_at": at} for duty, blob in sealed.items()]
    conn.execute(s.tenant_keys.insert(), rows)


def tenant_is_home(conn: Connection, tenant: str) -> bool:
    """Tell whether this is the tenant that may create others."""
    return bool(conn.execute(select(s.tenants.c.home).where(s.tenants.c.id == tenant)).scalar_one_or_none())


def home_tenant(conn: Connection) -> str:
    """Return the id of the tenant that may create others."""
    return str(conn.execute(select(s.tenants.c.id).where(s.tenants.c.home)).scalar_one())


def read_tenant_keys(conn: Connection) -> list[tuple[str, str, bytes]]:
    """Return (tenant, duty, sealed) of every tenant."""
    columns = (s.tenant_keys.c.tenant, s.tenant_keys.c.duty, s.tenant_keys.c.sealed)
    return [(r[0], r[1], r[2]) for r in conn.execute(select(*columns).order_by(*columns[:2]))]


# ---- keys -----------------------------------------------------------------------------------------------------------------
_KEY_BY_ID = select(s.keys).where(s.keys.c.tenant == bindparam("tenant"), s.keys.c.id == bindparam("ref"))
_KEY_BY_NAME = select(s.keys).where(s.keys.c.tenant == bindparam("tenant"), s.keys.c.name == bindparam("ref"))
_VERSION_COLUMNS = [c for c in s.key_versions.c if c.name not in ("sealed", "used")]
_VERSIONS = select(*_VERSION_COLUMNS).where(s.key_versions.c.key_id == bindparam("key_id")).order_by(s.key_versions.c.number)
_MATERIAL = select(*(s.key_versions.c[name] for name in ("key_id", "number", "sealed", "state", "used"))).where(
    s.key_versions.c.key_id == bindparam("key_id"), s.key_versions.c.number == bindparam("number")
)
_INSERT_KEY = Prepared(s.keys.insert())
_INSERT_VERSION = Prepared(s.key_versions.insert())


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


def insert_key(conn: Connection, key: Key, material: WrappedMaterial) -> None:
    """Keep a new key with its first version. A taken name is `Conflict`: the schema says so, without a look beforehand."""
    row: dict[str, Any] = {"id": key.id, "tenant": key.tenant, "name": key.name, "spec": key.spec, "purpose": key.purpose}
    row |= {"location": key.location, "created_at": key.created_at, "created_by": key.created_by, "rev": key.rev}
    try:
        _INSERT_KEY.run(conn, row | _metadata(key))
    except IntegrityError:
        raise Conflict(f"a key named {key.name!r} exists", "choose another name, or rotate the key that is there") from None
    insert_version(conn, key, key.versions[0], material)


def insert_version(conn: Connection, key: Key, version: Version, material: WrappedMaterial) -> None:
    """Keep a new version of `key` with its sealed material."""
    row = msgspec.structs.asdict(version)
    row |= {"key_id": key.id, "is_primary": key.primary == version.number, "sealed": material.sealed, "used": 0}
    row["state"] = version.state.value
    _INSERT_VERSION.run(conn, row)


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


# ---- principals and credentials -------------------------------------------------------------------------------------------
_ROLE = select(s.principals.c.role).where(s.principals.c.tenant == bindparam("tenant"), s.principals.c.name == bindparam("name"))
_CREDENTIALS = select(s.credentials, s.principals.c.role).join(
    s.principals,
    (s.principals.c.tenant == s.credentials.c.tenant) & (s.principals.c.name == s.credentials.c.principal),
)
_BY_DIGEST = _CREDENTIALS.where(s.credentials.c.digest == bindparam("digest"), s.principals.c.disabled_at.is_(None))
_BY_CREDENTIAL = _CREDENTIALS.where(s.credentials.c.tenant == bindparam("tenant"), s.credentials.c.id == bindparam("id"))


def read_role(conn: Connection, tenant: str, principal: str) -> Role | None:
    """Return the role that the principal holds, or None for a name not known yet."""
    role = conn.execute(_ROLE, {"tenant": tenant, "name": principal}).scalar_one_or_none()
    return None if role is None else Role(role)


def _credential(row: Row[Any]) -> Credential:
    return Credential(
        id=row.id,
        tenant=row.tenant,
        principal=row.principal,
        role=Role(row.role),
        scope=None if row.scope is None else _decode(row.scope, type=Scope),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def insert_principal(conn: Connection, tenant: str, name: str, role: Role, at: int) -> None:
    """Keep a principal with its one duty. Names are never used again: the row is never deleted."""
    kind = "workload" if role is Role.APPLICATION else "person"
    conn.execute(s.principals.insert(), {"tenant": tenant, "name": name, "role": role.value, "created_at": at, "kind": kind})


def insert_credential(conn: Connection, credential: Credential, digest: bytes) -> None:
    """Keep a credential by the digest of its token, and its principal with the role if the name is new."""
    c = credential
    if read_role(conn, c.tenant, c.principal) is None:
        insert_principal(conn, c.tenant, c.principal, c.role, c.created_at)
    row: dict[str, Any] = {"id": c.id, "tenant": c.tenant, "principal": c.principal, "digest": digest, "created_at": c.created_at}
    row |= {"scope": None if c.scope is None else _encode(c.scope).decode(), "created_by": c.created_by}
    conn.execute(s.credentials.insert(), row | {"expires_at": c.expires_at, "revoked_at": None})


def read_credential(conn: Connection, digest: bytes) -> Credential | None:
    """Return the credential whose token has this digest, or None."""
    row = conn.execute(_BY_DIGEST, {"digest": digest}).first()
    return None if row is None else _credential(row)


def find_credential(conn: Connection, tenant: str, credential: str) -> Credential | None:
    """Return the credential of that id within the tenant, or None."""
    row = conn.execute(_BY_CREDENTIAL, {"tenant": tenant, "id": credential}).first()
    return None if row is None else _credential(row)


def list_credentials(conn: Connection, tenant: str, after: str, limit: int) -> list[Credential]:
    """Return credentials of a tenant by id after `after`."""
    c = s.credentials.c
    query = _CREDENTIALS.where(c.tenant == tenant, c.id > after).order_by(c.id).limit(limit)
    return [_credential(row) for row in conn.execute(query)]


def live_credentials(conn: Connection, tenant: str, now: int, principal: str = "") -> list[Credential]:
    """Return credentials that are neither revoked nor over, whose principal is enabled: of one principal or of all, by id."""
    c = s.credentials.c
    live = (c.tenant == tenant, c.revoked_at.is_(None), c.expires_at > now, s.principals.c.disabled_at.is_(None))
    query = _CREDENTIALS.where(*live).order_by(c.id)
    return [_credential(row) for row in conn.execute(query.where(c.principal == principal) if principal else query)]


def revoke_credential(conn: Connection, credential: str, at: int) -> None:
    """Revoke; a second time changes nothing."""
    c = s.credentials.c
    conn.execute(update(s.credentials).where(c.id == credential, c.revoked_at.is_(None)).values(revoked_at=at))


# ---- idempotency ----------------------------------------------------------------------------------------------------------
def read_idempotent(conn: Connection, tenant: str, principal: str, key: str) -> tuple[bytes, bytes] | None:
    """Return (request digest, sealed response) kept under an idempotency key, or None."""
    c = s.idempotency.c
    query = select(c.request, c.response).where(c.tenant == tenant, c.principal == principal, c.key == key)
    row = conn.execute(query).first()
    return None if row is None else (row.request, row.response)


def keep_idempotent(conn: Connection, tenant: str, principal: str, key: str, request: bytes, response: bytes, at: int) -> None:
    """Keep a sealed response under an idempotency key; keys older than `IDEMPOTENCY_KEPT` are dropped on the way."""
    conn.execute(s.idempotency.delete().where(s.idempotency.c.created_at < at - IDEMPOTENCY_KEPT))
    row = {"tenant": tenant, "principal": principal, "key": key, "request": request, "response": response, "created_at": at}
    conn.execute(s.idempotency.insert(), row)


IDEMPOTENCY_KEPT = 86_400 * 1_000_000  # microseconds: a day, longer than any client retries

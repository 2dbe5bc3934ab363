"""A tenant's own certificate authority: made when it is first needed, its key sealed under the tenant's operational key.

authority-renew makes the next one; certificates of the ones before are believed until they end. Lists and bundles for others are
made here too: they are public.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.core.errors import Broken, Sealed, Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.suites import KeySpec
from keyclave.crypto.x509 import public_point, read_leaf, to_pem
from keyclave.crypto.x509_authority import Signer, revocation_list, self_signed
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Empty
from keyclave.operations.keyring import LoadedKey
from keyclave.store import tenant_rows
from keyclave.store.access import workloads as rows

if TYPE_CHECKING:
    from collections.abc import Iterator

LIST_SECONDS = 86_400  # until the next list is due
_LIST_FRESH = 3600 * MICROSECONDS  # how long one list is handed out
_SPECS = {"ecdsa-p256": KeySpec.ECDSA_P256, "ecdsa-p384": KeySpec.ECDSA_P384}


class AuthorityView(Answer, kw_only=True):
    """An authority: its certificate in PEM."""

    id: str
    number: int
    trust_domain: str
    certificate: str
    not_after: str
    created_at: str
    created_by: str


def renew(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> Callable[[Connection], AuthorityView]:
    """Make the tenant's next authority, or its first: from now on it is the one that issues."""
    made = new_authority(desk, attempt)
    attempt.detail = {"authority": made.id, "number": made.number, "trust_domain": made.domain}

    def change(transaction: Connection) -> AuthorityView:
        rows.insert_authority(transaction, made)
        return AuthorityView(**_fields(made))

    attempt.touches = (made.id,)
    return change


def new_authority(desk: Desk, attempt: Attempt) -> rows.AuthorityRow:
    """Return a new authority of the caller's tenant, its sealed key tried before it is believed."""
    tenant = attempt.caller.tenant
    before = desk.store.read(lambda conn: rows.list_authorities(conn, tenant))
    home = desk.store.read(lambda conn: tenant_rows.tenant_is_home(conn, tenant))
    domain = desk.workloads.domain_of(tenant, home=home)
    number = max((one.number for one in before), default=0) + 1
    identity, spec = to_id("ca", desk.module.random(RAW)), _SPECS[desk.workloads.spec]
    pair = desk.module.generate_pair(spec)
    with pair.private as private:
        certificate = self_signed(desk.module, pair, spec, domain, identity, attempt.at)
        operational = desk.keyring.tenant_key(tenant, "operational")
        sealed = desk.module.seal(operational, private, _context(tenant, identity))
        with desk.module.open_slot(operational, sealed, _context(tenant, identity)) as again:
            if not private.same_as(again):
                raise Broken("a wrapped authority key does not open again", "stop the server and check its memory")
    return rows.AuthorityRow(
        id=identity,
        tenant=tenant,
        number=number,
        domain=domain,
        spec=spec.value,
        certificate=certificate,
        sealed=sealed,
        created_at=attempt.at,
        created_by=attempt.caller.principal,
        not_after=read_leaf(certificate).not_after,
    )


def current(desk: Desk, tenant: str) -> rows.AuthorityRow | None:
    """Return the authority that issues for a tenant, or None before the first."""
    found = desk.store.read(lambda conn: rows.list_authorities(conn, tenant))
    return found[-1] if found else None


@contextmanager
def signer_of(desk: Desk, authority: rows.AuthorityRow) -> Iterator[Signer]:
    """Lend an authority's signer; its key is wiped afterwards."""
    operational = desk.keyring.tenant_key(authority.tenant, "operational")
    with desk.module.open_slot(operational, authority.sealed, _context(authority.tenant, authority.id)) as private:
        yield Signer(desk.module, private, KeySpec(authority.spec))


# ---- what anybody may have ------------------------------------------------------------------------------------------------
def published_list(desk: Desk, identity: str = "") -> bytes:
    """Return the CRL (DER) of an authority, or of the one that issues for the home tenant. Its number is the time."""
    authority = _find(desk, identity)
    now = desk.clock.now()
    kept = desk.callers.certified.lists.get(authority.id)
    if kept is not None and now - kept[0] < _LIST_FRESH:
        return kept[1]
    if desk.vault.sealed:
        raise Sealed
    revoked = desk.store.read(lambda conn: rows.revoked_certificates(conn, authority.id, now))
    with signer_of(desk, authority) as signer:
        made = revocation_list(signer, authority.certificate, now, revoked, now, LIST_SECONDS)
    desk.callers.certified.lists[authority.id] = (now, made)
    return made


def published_bundle(desk: Desk, tenant: str = "") -> str:
    """Return the certificates (PEM) under which a tenant's workloads stand, newest first."""
    return "".join(to_pem(one.certificate) for one in reversed(_bundle(desk, tenant)))


def spiffe_bundle(desk: Desk, tenant: str = "") -> dict[str, Any]:
    """Return the same as a SPIFFE bundle: a JWK set (SPIFFE Trust Domain and Bundle, section 4; RFC 7517)."""
    found = _bundle(desk, tenant)
    keys = []
    for one in found:
        curve, x, y = public_point(one.certificate)
        entry = {"kty": "EC", "use": "x509-svid", "crv": curve, "x": _url64(x), "y": _url64(y)}
        keys.append({**entry, "x5c": [base64.b64encode(one.certificate).decode()]})
    return {"keys": keys, "spiffe_sequence": found[-1].number if found else 0, "spiffe_refresh_hint": 3600}


def _find(desk: Desk, identity: str) -> rows.AuthorityRow:
    if not identity:
        return _bundle(desk, "")[-1]
    for one in desk.store.read(rows.list_authorities):
        if one.id == identity:
            return one
    raise _no_authority()


def _bundle(desk: Desk, tenant: str) -> list[rows.AuthorityRow]:
    asked = tenant or desk.store.read(tenant_rows.home_tenant)
    now = desk.clock.now()
    found = [one for one in desk.store.read(lambda conn: rows.list_authorities(conn, asked)) if one.not_after > now]
    if not found:
        raise _no_authority()
    return found


def _no_authority() -> Unknown:
    return Unknown("there is no such authority", "an operator makes the first one with `keyclave workload authority-renew`")


def _context(tenant: str, identity: str) -> bytes:
    """Return what an authority's key is bound to: moved to another row or tenant it will not open."""
    return canonical("keyclave/workload-authority/1", tenant, identity)


def _url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _fields(one: rows.AuthorityRow) -> dict[str, Any]:
    return {
        "id": one.id,
        "number": one.number,
        "trust_domain": one.domain,
        "certificate": to_pem(one.certificate),
        "not_after": to_text(one.not_after),
        "created_at": to_text(one.created_at),
        "created_by": one.created_by,
    }

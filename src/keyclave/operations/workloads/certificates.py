"""certificate-issue, -list, -revoke: short-lived certificates against an enrolment token, an outside token, or a live one.

A workload that holds a live certificate of ours gets the next one with it and needs no token again. What stops that is revoking:
it is looked at in the transaction that issues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import to_text
from keyclave.core.errors import Malformed, Refused, Unauthenticated, Unknown
from keyclave.core.ids import RAW, from_id, to_id
from keyclave.crypto.x509 import read_leaf, to_pem
from keyclave.crypto.x509_authority import issue as sign
from keyclave.crypto.x509_requests import LONGEST, read_request
from keyclave.identity.spiffe import covers, parse_workload
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.workloads.authority import current, signer_of
from keyclave.operations.workloads.recognition import patterns_over
from keyclave.store.access import credentials
from keyclave.store.access import workloads as rows

_SHORTEST = 300  # seconds


class CertificateRequest(Request, kw_only=True):
    """`csr`: PKCS #10 in PEM. It may name the SPIFFE ID as its one URI, and must where the token stands for several."""

    csr: Annotated[str, Meta(min_length=1, max_length=LONGEST)]
    ttl_seconds: Annotated[int, Meta(ge=_SHORTEST, le=86_400)] | None = None


class CertificateView(Answer, kw_only=True):
    """A certificate of the tenant's own authority, described. `serial` in hex."""

    id: str
    name: str
    serial: str
    source: str
    authority: str
    not_before: str
    not_after: str
    revoked_at: str | None


class NewCertificate(CertificateView, kw_only=True):
    """The certificate and the authority's, both in PEM; `renew_after` is when half its life is over."""

    certificate: str
    authority_certificate: str
    renew_after: str


class CertificateQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of certificates, perhaps of one workload."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100
    name: Annotated[str, Meta(max_length=2048)] = ""


class CertificatePage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    certificates: list[CertificateView]
    next: str | None


class CertificateRevoke(Request, kw_only=True):
    """Why. `outside`: it is one of an outside authority, of which nothing is kept here: block it by its id."""

    outside: bool = False
    reason: Reason = ""


def issue(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: CertificateRequest
) -> Callable[[Connection], NewCertificate]:
    """Issue a certificate for the key of a request to the name that the caller stands for."""
    caller = attempt.caller
    tenant = caller.tenant
    asked = read_request(request.csr)
    name = _granted_name(caller.principal, asked.uris)
    authority = current(desk, tenant)
    if authority is None or parse_workload(name).domain != authority.domain:
        raise Refused("this tenant issues no certificates for that name", "an operator makes an enrolment for it")
    _check_registered(desk, tenant, name)
    _check_may_issue(desk, attempt)
    seconds = min(request.ttl_seconds or desk.workloads.certificate_seconds, desk.workloads.certificate_seconds)
    with signer_of(desk, authority) as signer:
        der = sign(signer, authority.certificate, asked.public, name, attempt.at, seconds)
    leaf = read_leaf(der)
    made = rows.Issued(
        id=to_id("crt", leaf.thumbprint[:RAW]),
        tenant=tenant,
        authority=authority.id,
        serial=f"{leaf.serial:x}",
        thumbprint=leaf.thumbprint,
        name=name,
        source=caller.id if caller.standing.how in ("enrolment", "mtls") else f"{caller.credential.created_by}:{caller.id}",
        not_before=leaf.not_before,
        not_after=leaf.not_after,
    )
    attempt.detail = {"certificate": made.id, "name": name, "serial": made.serial}

    def change(transaction: Connection) -> NewCertificate:
        _still_may(transaction, attempt)
        rows.insert_certificate(transaction, made)
        return NewCertificate(
            certificate=to_pem(der),
            authority_certificate=to_pem(authority.certificate),
            renew_after=to_text((leaf.not_before + leaf.not_after) // 2),
            **_fields(made),
        )

    return change


def _granted_name(granted: str, uris: tuple[str, ...]) -> str:
    if not uris:
        if granted.endswith("*"):
            raise Malformed("the request names nobody, and the token stands for several", "name the SPIFFE ID in the request")
        return granted
    name = str(parse_workload(uris[0]))
    if not covers(granted, name):
        raise Refused("the request names another workload than the caller stands for", "leave the name out, or ask for your own")
    return name


def _check_registered(desk: Desk, tenant: str, name: str) -> None:
    found = desk.store.read(lambda conn: rows.match_workload(conn, tenant, name, patterns_over(name)))
    if found is None or found.disabled_at is not None:
        raise Refused("no workload of this name is registered", "an operator registers it: `keyclave workload register`")


def _check_may_issue(desk: Desk, attempt: Attempt) -> None:
    """Refuse callers whose way of presenting themselves is not one that a certificate is issued against."""
    standing = attempt.caller.standing
    if standing.only or standing.how == "enrolment":
        return
    if standing.how != "mtls" or not desk.callers.certified.own(attempt.peer):
        raise Refused(
            "a certificate is issued against an enrolment token, an issuer's token, or a live certificate of this server",
            "ask an operator for an enrolment",
        )


def _still_may(transaction: Connection, attempt: Attempt) -> None:
    """In the transaction: use the token up, or see that the certificate was not revoked meanwhile."""
    caller = attempt.caller
    if caller.standing.how == "enrolment":
        if not rows.use_enrolment(transaction, caller.id, attempt.at):
            raise _used_up()
    elif caller.standing.how == "mtls":
        live = rows.find_certificate(transaction, caller.tenant, caller.id)
        if live is None or live.revoked_at is not None:
            raise _used_up()


def list_certificates(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: CertificateQuery) -> CertificatePage:
    """List certificates that were issued, in the order of their ids."""
    tenant, limit = attempt.caller.tenant, query.limit
    found = desk.store.read(lambda conn: rows.list_certificates(conn, tenant, query.cursor, limit + 1, query.name))
    page = found[:limit]
    return CertificatePage(
        certificates=[CertificateView(**_fields(one)) for one in page], next=page[-1].id if len(found) > limit else None
    )


def revoke(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: CertificateRevoke
) -> Callable[[Connection], CertificateView]:
    """Revoke a certificate and what is bound to it: when this is answered, it opens nothing, on open connections either.

    One of an outside authority, of which nothing is kept, is blocked by its id, as events and whoami show it.
    """
    tenant, ref = attempt.caller.tenant, attempt.ref
    found = desk.store.read(lambda conn: rows.find_certificate(conn, tenant, ref))
    if found is None and not request.outside:
        raise Unknown("no such certificate", "see `keyclave workload certificates`; say `outside` for one of another authority")
    from_id("crt", ref)
    bound = desk.store.read(lambda conn: rows.bound_to(conn, tenant, ref))
    attempt.reason, attempt.touches = request.reason, (ref, *bound)
    attempt.detail = {"certificate": ref, "name": "" if found is None else found.name}

    def change(transaction: Connection) -> CertificateView:
        for credential in rows.bound_to(transaction, tenant, ref):
            credentials.revoke_credential(transaction, credential, attempt.at)
        if found is None:
            rows.block_certificate(transaction, tenant, ref, attempt.at, attempt.caller.principal)
            return CertificateView(
                id=ref, name="", serial="", source="outside", authority="", not_before="", not_after="",
                revoked_at=to_text(attempt.at),
            )  # fmt: skip
        at = found.revoked_at or attempt.at
        rows.revoke_certificate(transaction, ref, at)
        return CertificateView(**_fields(msgspec.structs.replace(found, revoked_at=at)))

    return change


def _used_up() -> Unauthenticated:
    return Unauthenticated("no live credential was presented", "ask an operator for another enrolment")


def _fields(one: rows.Issued) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "serial": one.serial,
        "source": one.source,
        "authority": one.authority,
        "not_before": to_text(one.not_before),
        "not_after": to_text(one.not_after),
        "revoked_at": None if one.revoked_at is None else to_text(one.revoked_at),
    }

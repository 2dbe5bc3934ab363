"""bound-token-issue and credential-renew: tokens of minutes that open nothing without their certificate, and carrying on.

A credential is carried on only by itself, while it is live, within a life counted from the first of its row; the policy of the
tenant may forbid it (`credential-renew` is an action like any other). The one before ends a minute later, so that a lost answer
can be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Refused, Unauthenticated
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.bearer import new_token
from keyclave.identity.caller import Credential
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.credentials import IssuedCredential, shown
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Empty, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import credentials
from keyclave.store.access import workloads as rows

OVERLAP = 60 * MICROSECONDS
_LEAST = 60 * MICROSECONDS  # what is carried on for less is not worth it


class BoundTokenRequest(Request, kw_only=True):
    """How long the token is to live; never longer than the certificate."""

    ttl_seconds: Annotated[int, Meta(ge=60, le=3600)] = 900


def issue_bound(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: BoundTokenRequest
) -> Callable[[Connection], IssuedCredential]:
    """Issue a token to whoever calls by a certificate, bound to that certificate (RFC 8705 section 3)."""
    caller = attempt.caller
    if caller.standing.how != "mtls":
        raise Refused("a bound token is issued to who calls by a certificate", "call without a token, on a connection with mTLS")
    seconds = min(request.ttl_seconds, desk.workloads.token_seconds)
    until = min(attempt.at + seconds * MICROSECONDS, caller.expires_at)
    credential = _next(desk, attempt, until)
    attempt.detail = {"bound_to": caller.id, "credential": credential.id}
    token, digest = new_token(desk.module)

    def change(transaction: Connection) -> IssuedCredential:
        if not _stands(transaction, caller.tenant, caller.id):
            raise _nobody()
        credentials.insert_credential(transaction, credential, digest)
        rows.bind(transaction, credential.id, caller.standing.thumbprint, caller.id)
        return IssuedCredential(token=token, **shown(credential))

    return change


def renew(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> Callable[[Connection], IssuedCredential]:
    """Carry the caller's own credential on: the same scope and binding, for as long again, within the life of its row."""
    caller = attempt.caller
    old = caller.credential
    if caller.role is not Role.APPLICATION or not old.id.startswith("crd_"):
        raise Refused("only an application's bearer credential is carried on", "people log in again; certificates are reissued")
    first = desk.store.read(lambda conn: rows.first_issued(conn, old.id)) or old.created_at
    until = min(attempt.at + (old.expires_at - old.created_at), first + desk.workloads.renewal_seconds * MICROSECONDS)
    if until < attempt.at + _LEAST or until <= old.expires_at:
        raise Refused("this credential cannot be carried on any further", "an operator issues a new one")
    credential = msgspec.structs.replace(_next(desk, attempt, until), created_by=old.created_by)
    attempt.detail = {"credential": credential.id, "renewed": old.id}
    attempt.touches = (old.id,)
    token, digest = new_token(desk.module)

    def change(transaction: Connection) -> IssuedCredential:
        kept = credentials.find_credential(transaction, old.tenant, old.id)
        if kept is None or not kept.live(attempt.at):
            raise _nobody()
        credentials.insert_credential(transaction, credential, digest)
        rows.keep_renewal(transaction, credential.id, old.id, first)
        rows.carry_binding(transaction, old.id, credential.id)
        rows.shorten_credential(transaction, old.id, attempt.at + OVERLAP)
        return IssuedCredential(token=token, **shown(credential))

    return change


def _next(desk: Desk, attempt: Attempt, until: int) -> Credential:
    caller = attempt.caller
    return Credential(
        id=to_id("crd", desk.module.random(RAW)),
        tenant=caller.tenant,
        principal=caller.principal,
        role=Role.APPLICATION,
        scope=caller.scope,
        created_at=attempt.at,
        created_by=caller.principal,
        expires_at=until,
    )


def _stands(transaction: Connection, tenant: str, certificate: str) -> bool:
    """Tell whether a certificate was not revoked meanwhile."""
    found = rows.find_certificate(transaction, tenant, certificate)
    revoked = found is not None and found.revoked_at is not None
    return not revoked and not rows.is_blocked(transaction, tenant, certificate)


def _nobody() -> Unauthenticated:
    return Unauthenticated("no live credential was presented", "send a current token as `Authorization: Bearer …`")

"""Who may enrol an authenticator now, and how it is kept: the rules that every kind of authenticator shares.

The first one comes by an invitation that two people stand behind, or by the very credential that made the principal (the
ceremony's, a new tenant's). Every further one asks for a session as sure as the surest authenticator there is, proved within
five minutes: else a stolen session, or a weaker authenticator, would breed stronger ones. And no authenticator counts as surer
than what it was bound with (SP 800-63B-4 section 4.1): a recovery code binds a passkey of level 1, with the password of level 2,
until an invitation, behind which two people stand, binds one anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.clock import to_text
from keyclave.core.errors import AssuranceRequired, Refused, StepUpRequired
from keyclave.core.ids import RAW, to_id
from keyclave.core.limits import PRINTABLE
from keyclave.crypto.digest import sha256
from keyclave.identity.assurance import FRESH
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.people.ceremonies import Ceremony as CeremonySaid
from keyclave.operations.people.ceremonies import over
from keyclave.operations.people.invitations import give_roles
from keyclave.operations.people.sessions import ended
from keyclave.store.access import invitations, people, sessions
from keyclave.store.access.people import Authenticator

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

RECOVERED = {"recovery": 1, "recovery-password": 2}
"""What a session that enrols after a loss binds at, by how it was opened: a code alone, or with the password beside it."""
MOST = 32  # live authenticators of one person
Label = Annotated[str, Meta(max_length=64, pattern=PRINTABLE)]
Ceremony = Annotated[str, Meta(max_length=2048, pattern=r"^[A-Za-z0-9_-]+$(?!\n)")]


class AuthenticatorView(Answer, kw_only=True):
    """An authenticator; `public_sha256` is the hex SHA-256 of its public key, where it has one."""

    id: str
    principal: str
    kind: str
    label: str
    aal: int
    aaguid: str
    synced: bool
    public_sha256: str
    enrolled_at: str
    used_at: str | None
    revoked_at: str | None
    revoked_why: str | None


def check_may_enrol(desk: Desk, attempt: Attempt, kind: str) -> None:
    """Refuse whoever may not enrol an authenticator of this kind now."""
    desk.store.read(lambda conn: _check(conn, attempt, kind))


def check_same_caller(attempt: Attempt, said: CeremonySaid) -> None:
    """Refuse a ceremony that was begun by somebody else, or under another session."""
    caller = attempt.caller
    if (said.tenant, said.principal, said.subject) != (caller.tenant, caller.principal, caller.id):
        raise over()


def _check(conn: Connection, attempt: Attempt, kind: str) -> None:
    caller, standing = attempt.caller, attempt.caller.standing
    if not standing.person:
        raise Refused("only people have authenticators", "workloads use certificates or credentials")
    enrolled = people.list_authenticators(conn, caller.tenant, caller.principal)
    live = [one for one in enrolled if one.revoked_at is None]
    if len(live) >= MOST and kind in ("passkey", "key"):
        raise Refused(f"there are {MOST} authenticators already", "revoke one that is not used any more")
    if standing.enrolling:
        if standing.how in RECOVERED and kind != "passkey":
            raise Refused("after a recovery code only a passkey can be enrolled", "enrol a passkey, then log in with it")
        return
    if not caller.id.startswith("ses_"):
        if enrolled or not _made_the_principal(conn, attempt):
            raise AssuranceRequired("a bearer credential enrols nothing here", "log in with a passkey, or ask for an invitation")
        return
    needed = max([2, *(one.aal for one in live if one.kind == "passkey")])
    if standing.aal < needed:
        raise AssuranceRequired(f"enrolling asks for assurance level {needed}", "log in with the surest passkey you have")
    if attempt.at - standing.stepped_up_at > FRESH:
        raise StepUpRequired("enrolling asks for a proof of presence within 5 minutes", "confirm with the passkey again")


def _made_the_principal(conn: Connection, attempt: Attempt) -> bool:
    """Tell whether the credential is the one that the principal came to be with: what is issued later proves less."""
    person = people.read_person(conn, attempt.caller.tenant, attempt.caller.principal)
    return person is not None and person.created_at == attempt.caller.credential.created_at


def bound_level(attempt: Attempt, most: int) -> int:
    """Return the level at which an authenticator that can prove `most` counts when it is bound by this caller."""
    standing = attempt.caller.standing
    if not attempt.caller.id.startswith("ses_") or (standing.enrolling and standing.how == "invitation"):
        return most
    return min(most, RECOVERED.get(standing.how, standing.aal) if standing.enrolling else standing.aal)


def is_bound_lower(one: Authenticator) -> bool:
    """Tell whether a live passkey counts for less than it can prove, for what it was bound with."""
    return one.kind == "passkey" and one.revoked_at is None and one.aal < (2 if one.backup_eligible else 3)


def _replace_lower(transaction: Connection, attempt: Attempt, made: Authenticator) -> None:
    """Revoke passkeys that were bound lower, once an invitation binds one anew: often it is the same device."""
    lower = [one.id for one in people.list_authenticators(transaction, made.tenant, made.principal) if is_bound_lower(one)]
    for one in lower:
        people.revoke_authenticator(transaction, one, attempt.at, "replaced")
    if lower:  # the record names what can sign no longer
        attempt.detail = dict(sorted({**(attempt.detail or {}), "replaced": ",".join(lower)}.items()))


def new_authenticator(desk: Desk, attempt: Attempt, kind: str, label: str, aal: int, **more: object) -> Authenticator:
    """Return an authenticator of the caller with a new id, and say in the event what is enrolled."""
    made = Authenticator(
        id=to_id("aut", desk.module.random(RAW)),
        tenant=attempt.caller.tenant,
        principal=attempt.caller.principal,
        kind=kind,
        label=label,
        aal=aal,
        enrolled_at=attempt.at,
        **more,  # type: ignore[arg-type]
    )
    attempt.detail = {"aal": aal, "authenticator": made.id, "kind": kind, "principal": made.principal}
    if made.public is not None:
        attempt.detail = {**attempt.detail, "public_sha256": sha256(made.public).hex()}
    attempt.detail = dict(sorted(attempt.detail.items()))
    attempt.touches = (made.principal,)
    return made


def keep(transaction: Connection, attempt: Attempt, made: Authenticator) -> None:
    """Keep it, inside the transaction: the caller still may, and the first one uses up the invitation behind the session."""
    _check(transaction, attempt, made.kind)
    caller = attempt.caller
    if caller.standing.enrolling:
        session = sessions.read_session(transaction, caller.tenant, caller.id)
        if session is None or session.revoked_at is not None:
            raise ended()
        if session.invitation and _use_invitation(transaction, attempt, session.invitation):
            sessions.revoke_invited(transaction, session.invitation, attempt.at, but=session.id)
    if caller.standing.enrolling and caller.standing.how == "invitation" and made.kind == "passkey":
        _replace_lower(transaction, attempt, made)
    people.insert_authenticator(transaction, msgspec.structs.replace(made, event=attempt.event))


def _use_invitation(transaction: Connection, attempt: Attempt, invitation: str) -> bool:
    """Use an invitation up with the first authenticator, and give the roles it promised; False when this session did already.

    The other sessions that came from it are revoked with the use, so a session that is live after it is the one that used it.
    """
    found = invitations.read_invitation(transaction, attempt.caller.tenant, invitation)
    if found is None:
        raise ended()
    if found.used_at is not None:
        return False
    if not invitations.use_invitation(transaction, invitation, attempt.at):
        raise Refused("the invitation can no longer be used", "ask for a new one")
    give_roles(attempt.desk, transaction, found, attempt.at)
    return True


def view(one: Authenticator) -> AuthenticatorView:
    """Return what its owner may see of an authenticator."""
    return AuthenticatorView(
        id=one.id,
        principal=one.principal,
        kind=one.kind,
        label=one.label,
        aal=one.aal,
        aaguid=one.aaguid,
        synced=one.backup_eligible,
        public_sha256="" if one.public is None else sha256(one.public).hex(),
        enrolled_at=to_text(one.enrolled_at),
        used_at=None if one.used_at is None else to_text(one.used_at),
        revoked_at=None if one.revoked_at is None else to_text(one.revoked_at),
        revoked_why=one.revoked_why,
    )


def sealed_with(desk: Desk, made: Authenticator, secret: bytes) -> Authenticator:
    """Return the authenticator with its secret, a seed or a password's hash, sealed and bound to it."""
    return msgspec.structs.replace(made, sealed=seal_bytes(desk, made.tenant, made.id, secret))


def open_secret(desk: Desk, one: Authenticator) -> bytes:
    """Open what was sealed; raise `Sealed` while the server is."""
    return open_bytes(desk, one.tenant, one.id, one.sealed or b"")


def seal_bytes(desk: Desk, tenant: str, what: str, secret: bytes) -> bytes:
    """Seal with the tenant's operational key, bound to what it is."""
    sealer = desk.module.message_sealer(desk.keyring.tenant_key(tenant, "operational"), _context(tenant, what))
    iv = desk.module.random(12)
    return sealer.commitment + iv + sealer.seal(iv, secret, b"")


def open_bytes(desk: Desk, tenant: str, what: str, kept: bytes) -> bytes:
    """Open what `seal_bytes` sealed."""
    key = desk.keyring.tenant_key(tenant, "operational")
    return desk.module.open_message(key, _context(tenant, what), kept[:32], kept[32:44], kept[44:], b"")


def replace_older(transaction: Connection, attempt: Attempt, kind: str) -> None:
    """Revoke the caller's earlier authenticators of a kind of which one has one: the new one takes their place."""
    caller = attempt.caller
    for one in people.list_authenticators(transaction, caller.tenant, caller.principal):
        if one.kind == kind and one.revoked_at is None:
            people.revoke_authenticator(transaction, one.id, attempt.at, "replaced")


def _context(tenant: str, what: str) -> bytes:
    return canonical("keyclave/authenticator/1", tenant, what)

"""Logging in with a passkey: findable without a name, or by name without telling who exists.

What does not succeed has one answer. Failures are counted by network (`identity/lockout`); nothing is written before a proof is
right, but for what the person must know later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.errors import Refused, Unauthenticated
from keyclave.crypto.digest import sha256
from keyclave.identity.caller import Caller, Credential
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.forms import Request
from keyclave.operations.people.enrolment import Ceremony
from keyclave.operations.people.proofs import count_or_suspend, find_passkey, prove
from keyclave.operations.people.sessions import answer_of, open_session
from keyclave.operations.people.webauthn_forms import PasskeyBegun, PasskeyProof, assertion
from keyclave.store.access import people

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "login"
LOGIN = "login"  # the operation, as the log names it
_SHOWN = 4  # credential ids are shown by fours, made up where there are fewer
_LENGTHS = (16, 20, 32, 48, 64)  # bytes, as devices make them

Principal = Annotated[str, Meta(min_length=1, max_length=limits.NAME, pattern=limits.PRINTABLE)]
TenantRef = Annotated[str, Meta(max_length=limits.NAME, pattern=limits.PRINTABLE)]


class BeginLogin(Request, kw_only=True):
    """Who wants in, or nobody for a passkey that is found without a name. `tenant`: name or id, the home tenant where empty."""

    principal: Annotated[str, Meta(max_length=limits.NAME, pattern=limits.PRINTABLE)] = ""
    tenant: TenantRef = ""


class FinishLogin(Request, kw_only=True):
    """The device's answer. `cookie`: set the session as a cookie instead of telling its token, for pages."""

    ceremony: Ceremony
    credential: PasskeyProof
    cookie: bool = False


def begin(desk: Desk, request: BeginLogin) -> PasskeyBegun:
    """Begin a login. For a name, passkeys are listed by fours: who has none, or does not exist, gets as many that never were."""
    now = desk.clock.now()
    tenant = desk.store.read(lambda conn: people.find_tenant(conn, request.tenant)) or ""
    ceremony = desk.people.ceremonies.begin(KIND, now, tenant=tenant, principal=request.principal)
    if not request.principal:
        return assertion(desk.people, ceremony, [])
    found = desk.store.read(lambda conn: people.list_authenticators(conn, tenant, request.principal))
    handles = [one.handle for one in found if one.handle is not None and one.revoked_at is None]
    while not handles or len(handles) % _SHOWN:
        made_up = desk.people.decoy(tenant, f"{request.principal} {len(handles)}")
        handles.append((made_up + sha256(made_up))[: _LENGTHS[made_up[0] % len(_LENGTHS)]])
    return assertion(desk.people, ceremony, sorted(handles, key=sha256))


def finish(desk: Desk, peer: Peer, request: FinishLogin, reply: Reply) -> None:
    """Finish a login: the answer is a session. Raises what is refused before anybody is known."""
    now = desk.clock.now()
    said = desk.people.ceremonies.read(request.ceremony, KIND, now)
    found = find_passkey(desk, request.credential)
    try:
        asserted = prove(desk, found, request.credential, request.ceremony)
    except Refused:
        raise not_in() from None
    assert found is not None  # noqa: S101 - `prove` refuses nobody's
    if said.principal and (said.tenant, said.principal) != (found.tenant, found.principal):
        raise not_in()
    attempt = begin_attempt(desk, peer, found.tenant, found.principal, reply)
    attempt.detail = {"authenticator": found.id}

    def change(transaction: Connection) -> object:
        desk.people.ceremonies.spend(transaction, request.ceremony, said, now)
        if not count_or_suspend(transaction, attempt, found, asserted):
            return None
        return admit(desk, transaction, attempt, aal=found.aal, how="passkey", authenticator=found.id)

    submit(desk, attempt, change)


def begin_attempt(desk: Desk, peer: Peer, tenant: str, principal: str, reply: Reply) -> Attempt:
    """Return the attempt of somebody who is about to be known; `principal` is empty where nobody is."""
    credential = Credential(
        id="", tenant=tenant if principal else "", principal=principal or "nobody", role=Role.PERSON, scope=None, created_at=0,
        created_by="", expires_at=0,
    )  # fmt: skip
    return Attempt(desk, LOGIN, Caller(credential), peer, reply)


def admit(
    desk: Desk, transaction: Connection, attempt: Attempt, *, aal: int, how: str, authenticator: str, enrolling: bool = False
) -> object:
    """Open the session of a login, and say in the event how it was proved."""
    caller = attempt.caller
    session, token = open_session(
        desk, transaction, caller.tenant, caller.principal, aal=aal, how=how, at=attempt.at, source=attempt.peer.address,
        authenticator=authenticator, enrolling=enrolling,
    )  # fmt: skip
    detail = {**(attempt.detail or {}), "aal": aal, "authenticator": authenticator, "method": how, "session": session.id}
    attempt.detail = dict(sorted(detail.items()))
    return answer_of(session, token)


def submit(desk: Desk, attempt: Attempt, change: Callable[[Connection], object]) -> None:
    """Have the change made and its event kept, or only the event where the attempt failed already."""
    attempt.change_fn, attempt.changes = change, True
    desk.enqueue(attempt)


def not_in() -> Unauthenticated:
    """Return the one answer for every login that does not succeed."""
    return Unauthenticated("the login did not succeed", "check what you gave; after several failures wait, or use a passkey")

"""Sessions: opened by a login, raised by a step-up under a new token, ended by the clock, by their person, or for them.

Whoever logs people in by another way (single sign-on) opens sessions here too, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.core.errors import Refused, Unauthenticated, Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.bearer import SESSION, new_token
from keyclave.identity.assurance import ENROLLING_SECONDS
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer, Empty, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.store.access import people, sessions
from keyclave.store.access.sessions import Session

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


class SessionView(msgspec.Struct, kw_only=True):
    """A session; the token is not in it. `seen_at` is kept to the half minute."""

    id: str
    principal: str
    aal: int
    how: str
    source: str
    created_at: str
    seen_at: str
    stepped_up_at: str
    expires_at: str
    idle_seconds: int
    current: bool


class SessionQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page of sessions: the caller's own, or those of `principal`, or of everybody (`*`)."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100
    principal: Annotated[str, Meta(max_length=limits.NAME)] = ""


class SessionPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    sessions: list[SessionView]
    next: str | None


class SessionAnswer(Answer, kw_only=True):
    """A session that was opened or raised. `token` is shown once, or set as a cookie and left out here."""

    session: str
    principal: str
    aal: int
    how: str
    expires_at: str
    stepped_up_at: str
    token: str = ""


class EndRequest(Request, kw_only=True):
    """Why."""

    reason: Reason = ""


class EndAnswer(Answer, kw_only=True):
    """How many sessions ended."""

    ended: int


def open_session(
    desk: Desk, transaction: Connection, tenant: str, principal: str, *, aal: int, how: str, at: int, source: str,
    authenticator: str = "", enrolling: bool = False, invitation: str = "", proved_at: int = 0, until: int = 0,
) -> tuple[Session, str]:  # fmt: skip
    """Open a session inside the transaction of a login and return it with its token. A disabled person gets none.

    `how` is the method as the log shows it. `enrolling` makes one of a quarter of an hour that is good for enrolling alone.
    `proved_at`: when the person proved themselves, where that was before now; `until`: when it must end, where that is earlier.
    """
    person = people.read_person(transaction, tenant, principal)
    if person is None or person.disabled_at is not None or person.kind != "person":
        raise Unauthenticated("the login did not succeed", "check what you gave, or ask an operator")
    token, digest = new_token(desk.module, SESSION)
    bounds = desk.people.limits
    ends = at + ENROLLING_SECONDS * MICROSECONDS if enrolling else bounds.ends(aal, at)
    session = Session(
        id=to_id("ses", desk.module.random(RAW)),
        tenant=tenant,
        principal=principal,
        role=person.role,
        aal=aal,
        how=how,
        authenticator=authenticator,
        enrolling=enrolling,
        invitation=invitation,
        source=source[:64],
        created_at=at,
        expires_at=min(ends, until) if until else ends,
        idle_seconds=ENROLLING_SECONDS if enrolling else bounds.idle_seconds(aal),
        seen_at=at,
        stepped_up_at=proved_at or at,
    )
    sessions.insert_session(transaction, session, digest)
    return session, token


def raise_session(
    desk: Desk, transaction: Connection, session: str, tenant: str, *, aal: int, how: str, at: int, authenticator: str,
    proved_at: int = 0,
) -> tuple[Session, str]:  # fmt: skip
    """Step a session up after a fresh proof: a new token, a new time of proof, never a lower level. The old token is dead."""
    found = sessions.read_session(transaction, tenant, session)
    if found is None or found.revoked_at is not None:
        raise ended()
    level = max(found.aal, aal)
    token, digest = new_token(desk.module, SESSION)
    raised = msgspec.structs.replace(
        found,
        aal=level,
        how=how if aal >= found.aal else found.how,
        authenticator=authenticator,
        expires_at=desk.people.limits.ends(level, at),
        idle_seconds=desk.people.limits.idle_seconds(level),
        seen_at=at,
        stepped_up_at=proved_at or at,
    )
    if not sessions.replace_token(transaction, raised, digest):
        raise ended()
    return raised, token


def ended() -> Unauthenticated:
    """Return what a session is told that ended meanwhile."""
    return Unauthenticated("the session has ended", "log in again")


def answer_of(session: Session, token: str) -> SessionAnswer:
    """Return what whoever logged in is told."""
    return SessionAnswer(
        session=session.id,
        principal=session.principal,
        aal=session.aal,
        how=session.how,
        expires_at=to_text(session.expires_at),
        stepped_up_at=to_text(session.stepped_up_at),
        token=token,
    )


def list_sessions(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: SessionQuery) -> SessionPage:
    """List live sessions: one's own; custodians and operators may see anybody's."""
    caller = attempt.caller
    wanted = caller.principal if not query.principal else "" if query.principal == "*" else query.principal
    if wanted != caller.principal:
        _check_over_others(desk, attempt)
    limit = query.limit
    found = desk.store.read(lambda conn: sessions.list_sessions(conn, caller.tenant, wanted, query.cursor, limit + 1))
    shown = [
        _view(desk.callers.seen(session), caller.id) for session in found[:limit] if desk.callers.seen(session).live(attempt.at)
    ]
    return SessionPage(sessions=shown, next=found[limit - 1].id if len(found) > limit else None)


def revoke_session(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EndRequest
) -> Callable[[Connection], EndAnswer]:
    """End one session: one's own; custodians and operators may end anybody's. To others it seems not to exist."""
    caller, ref = attempt.caller, attempt.ref
    found = desk.store.read(lambda conn: sessions.read_session(conn, caller.tenant, ref))
    others = caller.role in (Role.CUSTODIAN, Role.OPERATOR) and not caller.standing.enrolling
    if found is None or (found.principal != caller.principal and not others):
        raise Unknown("no such session", "see `keyclave session list`")
    if found.principal != caller.principal:
        desk.access.check_others(attempt)
    attempt.touches, attempt.reason = (ref,), request.reason
    attempt.detail = {"principal": found.principal, "session": ref}

    def change(transaction: Connection) -> EndAnswer:
        sessions.revoke_session(transaction, ref, attempt.at)
        return EndAnswer(ended=0 if found.revoked_at is not None else 1)

    return change


def logout(_desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> Callable[[Connection], EndAnswer]:
    """End the session that asks."""
    ref = attempt.caller.id
    if not ref.startswith("ses_"):
        raise Refused("this is not a session", "a bearer credential ends by `keyclave credential revoke`")
    attempt.touches, attempt.detail = (ref,), {"session": ref}

    def change(transaction: Connection) -> EndAnswer:
        sessions.revoke_session(transaction, ref, attempt.at)
        return EndAnswer(ended=1)

    return change


def end_all(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EndRequest) -> Callable[[Connection], EndAnswer]:
    """End every session of a person."""
    tenant, name = attempt.caller.tenant, attempt.ref
    if name != attempt.caller.principal:
        _check_over_others(desk, attempt)
    person = desk.store.read(lambda conn: people.read_person(conn, tenant, name))
    if person is None or person.kind != "person":
        raise Unknown("no such person", "see `keyclave person list`")
    attempt.touches, attempt.reason = (name,), request.reason
    attempt.detail = {"principal": name}

    def change(transaction: Connection) -> EndAnswer:
        return EndAnswer(ended=sessions.revoke_sessions(transaction, tenant, name, attempt.at))

    return change


def _check_over_others(desk: Desk, attempt: Attempt) -> None:
    if attempt.caller.role not in (Role.CUSTODIAN, Role.OPERATOR):
        raise Refused("only custodians and operators see and end the sessions of others", "leave `principal` out for your own")
    desk.access.check_others(attempt)


def _view(session: Session, current: str) -> SessionView:
    return SessionView(
        id=session.id,
        principal=session.principal,
        aal=session.aal,
        how=session.how,
        source=session.source,
        created_at=to_text(session.created_at),
        seen_at=to_text(session.seen_at),
        stepped_up_at=to_text(session.stepped_up_at),
        expires_at=to_text(session.expires_at),
        idle_seconds=session.idle_seconds,
        current=session.id == current,
    )

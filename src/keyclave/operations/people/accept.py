"""Beginning an enrolment with an invitation: its token buys a quarter of an hour in which an authenticator can be enrolled.

The invitation is used up by the first authenticator, not by the beginning: a browser that fails half-way costs nobody their
way in. Used, expired, waiting, revoked and unknown look the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.errors import Unauthenticated
from keyclave.crypto.bearer import token_digest
from keyclave.identity.names import kind_of
from keyclave.identity.peer import Peer
from keyclave.operations.attempt import Reply
from keyclave.operations.forms import Request
from keyclave.operations.people import invitations as inviting
from keyclave.operations.people.login import begin_attempt, submit
from keyclave.operations.people.sessions import SessionAnswer, answer_of, open_session
from keyclave.store.access import invitations

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

BEGIN = "enrolment-begin"


class BeginEnrolment(Request, kw_only=True):
    """The token of the invitation."""

    invitation: Annotated[str, Meta(min_length=1, max_length=128)]
    cookie: bool = False


class EnrolmentAnswer(SessionAnswer, kw_only=True):
    """A session that is good for enrolling alone, with what the invitation says."""

    role: str
    invited_by: str


def begin(desk: Desk, peer: Peer, request: BeginEnrolment, reply: Reply) -> None:
    """Open the session of an enrolment."""
    desk.people.check_place(peer.address)
    found = desk.store.read(lambda conn: invitations.find_invitation(conn, token_digest(request.invitation.encode())))
    now = desk.clock.now()
    if found is None or not found.open(now) or kind_of(found.principal):
        desk.people.failed_at(peer.address)
        raise Unauthenticated("the invitation opens nothing", "ask whoever invited you: it may be over, or unconfirmed")
    attempt = begin_attempt(desk, peer, found.tenant, found.principal, reply)
    attempt.op = BEGIN

    def change(transaction: Connection) -> EnrolmentAnswer:
        inviting.accept(desk, transaction, found, now)
        session, token = open_session(
            desk, transaction, found.tenant, found.principal, aal=1, how="invitation", at=now, source=peer.address,
            enrolling=True, invitation=found.id,
        )  # fmt: skip
        attempt.detail = {"invitation": found.id, "session": session.id}
        said = msgspec.structs.asdict(answer_of(session, token))
        return EnrolmentAnswer(**said, role=found.role.value, invited_by=found.invited_by)

    submit(desk, attempt, change)

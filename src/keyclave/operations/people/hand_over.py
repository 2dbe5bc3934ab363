"""Handing a login on, from the browser where somebody proved themselves to a command line of theirs.

What is handed on is a session of its own, never the browser's token: no surer, no longer, and proved no later than the one it
comes from. Who hands on must have proved presence within five minutes, so an unattended browser hands on nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.errors import Refused, StepUpRequired, Unauthenticated
from keyclave.identity.assurance import FRESH
from keyclave.operations.attempt import Attempt
from keyclave.operations.people.sessions import SessionAnswer, answer_of, open_session
from keyclave.store.access import sessions

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk


def check_hands_on(attempt: Attempt) -> None:
    """Refuse whoever cannot hand a login on now."""
    caller = attempt.caller
    if not caller.id.startswith("ses_") or caller.standing.enrolling:
        raise Refused("only a login can be handed on", "log in with a passkey in the browser first")
    if attempt.at - caller.standing.stepped_up_at > FRESH:
        raise StepUpRequired("handing a login on asks for a proof of presence within 5 minutes", "confirm with the passkey again")


def open_handed(
    desk: Desk, transaction: Connection, attempt: Attempt, tenant: str, session: str, *, most: int, method: str
) -> SessionAnswer:
    """Open the session that `session` was handed on to, at level `most` at most. One that ended meanwhile hands on nothing."""
    found = sessions.read_session(transaction, tenant, session)
    if found is None or found.enrolling or not desk.callers.seen(found).live(attempt.at):
        raise Unauthenticated("the login that was handed on has ended", "log in again")
    made, token = open_session(
        desk, transaction, tenant, found.principal, aal=min(found.aal, most), how=found.how, at=attempt.at,
        source=attempt.peer.address, authenticator=found.authenticator, proved_at=found.stepped_up_at, until=found.expires_at,
    )  # fmt: skip
    attempt.detail = {"aal": made.aal, "from": session, "method": method, "session": made.id}
    return answer_of(made, token)

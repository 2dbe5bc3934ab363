"""step-up: a fresh proof with a passkey, before what asks for one. The session gets a new token; the old one is dead at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.errors import AssuranceRequired, Refused
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Empty, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.ceremonies import over
from keyclave.operations.people.enrolment import Ceremony, check_same_caller
from keyclave.operations.people.proofs import count_or_suspend, find_passkey, prove
from keyclave.operations.people.sessions import SessionAnswer, answer_of, raise_session
from keyclave.operations.people.webauthn_forms import PasskeyBegun, PasskeyProof, assertion
from keyclave.store.access import people

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "step-up"


class StepUp(Request, kw_only=True):
    """The device's answer to the ceremony."""

    ceremony: Ceremony
    credential: PasskeyProof


def begin(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> PasskeyBegun:
    """Begin: a challenge for the caller's own passkeys."""
    caller = attempt.caller
    _check_session(attempt)
    found = desk.store.read(lambda conn: people.list_authenticators(conn, caller.tenant, caller.principal))
    live = [one for one in found if one.handle is not None and one.revoked_at is None]
    handles = [one.handle for one in live if one.handle is not None and one.aal >= caller.standing.aal]
    if live and not handles:
        raise weaker()
    if not handles:
        raise Refused("there is no passkey to confirm with", "enrol one: `keyclave authenticator`, or on the account page")
    named = {"tenant": caller.tenant, "principal": caller.principal, "subject": caller.id}
    return assertion(desk.people, desk.people.ceremonies.begin(KIND, attempt.at, **named), handles)


def finish(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: StepUp) -> Callable[[Connection], SessionAnswer | None]:
    """Finish: raise the session that began it."""
    caller = attempt.caller
    _check_session(attempt)
    said = desk.people.ceremonies.read(request.ceremony, KIND, attempt.at)
    check_same_caller(attempt, said)
    found = find_passkey(desk, request.credential)
    asserted = prove(desk, found, request.credential, request.ceremony)
    if found is None or (found.tenant, found.principal) != (caller.tenant, caller.principal):
        raise over()
    if found.aal < caller.standing.aal:  # the session would be as sure as before, and fresh by a proof that is not
        raise weaker()
    attempt.touches, attempt.detail = (caller.id,), {"aal": found.aal, "authenticator": found.id}

    def change(transaction: Connection) -> SessionAnswer | None:
        desk.people.ceremonies.spend(transaction, request.ceremony, said, attempt.at)
        if not count_or_suspend(transaction, attempt, found, asserted):
            return None
        raised = {"aal": found.aal, "how": "passkey", "at": attempt.at, "authenticator": found.id}
        return answer_of(*raise_session(desk, transaction, caller.id, caller.tenant, **raised))  # type: ignore[arg-type]

    return change


def weaker() -> AssuranceRequired:
    """Return the refusal of a proof that is weaker than what the session was opened with."""
    return AssuranceRequired("this proof is weaker than the session's own", "confirm with what you logged in with")


def _check_session(attempt: Attempt) -> None:
    if not attempt.caller.id.startswith("ses_") or attempt.caller.standing.enrolling:
        raise Refused("only a session can be confirmed", "log in: `keyclave login`")

"""`keyclave login` with a browser: a one-time code over loopback, good with the verifier of who asked (RFC 8252, RFC 7636).

The code alone opens nothing: whoever reads it on its way (another program of the machine that took the port, a history) has not
the verifier, of which only the hash was ever sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.clock import MICROSECONDS
from keyclave.crypto.digest import same
from keyclave.identity.oidc import challenge_of
from keyclave.identity.peer import Peer
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.forms import Answer, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.ceremonies import SECONDS, over
from keyclave.operations.people.enrolment import Ceremony
from keyclave.operations.people.hand_over import check_hands_on, open_handed
from keyclave.operations.people.login import begin_attempt, not_in, submit
from keyclave.operations.people.sessions import SessionAnswer

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "cli"
_CODE_SECONDS = 60  # a command line that waits takes the code at once
Url64 = r"^[A-Za-z0-9_-]{43}$(?!\n)"
Token43 = Annotated[str, Meta(min_length=43, max_length=43, pattern=Url64)]


class CliGrant(Request, kw_only=True):
    """Which command line: the loopback port where it listens, its state, and the S256 challenge of its verifier."""

    port: Annotated[int, Meta(ge=1024, le=65535)]
    state: Token43
    challenge: Token43


class CliGranted(Answer, kw_only=True):
    """Where the page goes now: to the command line on this machine, with the code."""

    redirect: str


class CliLogin(Request, kw_only=True):
    """The code, and the verifier that its challenge was made of."""

    code: Ceremony
    verifier: Token43


def grant(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: CliGrant) -> Callable[[Connection], CliGranted]:
    """Give a code to the command line on the machine of whoever is logged in here."""
    check_hands_on(attempt)
    caller = attempt.caller
    named = {"tenant": caller.tenant, "principal": caller.principal, "subject": caller.id}
    code = desk.people.ceremonies.begin(KIND, attempt.at, **named, held=request.challenge)
    attempt.detail = {"session": caller.id}
    redirect = f"http://127.0.0.1:{request.port}/callback?code={code}&state={request.state}"
    return lambda _transaction: CliGranted(redirect=redirect)


def exchange(desk: Desk, peer: Peer, request: CliLogin, reply: Reply) -> None:
    """Open the session that a code stands for."""
    now = desk.clock.now()
    said = desk.people.ceremonies.read(request.code, KIND, now)
    if said.until - now < (SECONDS - _CODE_SECONDS) * MICROSECONDS:
        raise over()
    if not same(challenge_of(request.verifier).encode(), said.held.encode()):
        raise not_in()
    attempt = begin_attempt(desk, peer, said.tenant, said.principal, reply)

    def change(transaction: Connection) -> SessionAnswer:
        desk.people.ceremonies.spend(transaction, request.code, said, now)
        return open_handed(desk, transaction, attempt, said.tenant, said.subject, most=3, method="cli")

    submit(desk, attempt, change)

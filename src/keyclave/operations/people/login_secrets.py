"""Logging in with password and code, and with a recovery code: what can be guessed, and so is slowed down and counted.

Two counts go on. Failures of a name at a network delay that network alone, at every node. Failures in a row of one
authenticator are counted with it: at a hundred it is disabled (SP 800-63B-4 section 3.2.2), though not its person, whose passkey
goes on. Strangers cannot bring that about: after fifty failures only networks are heard from which the person came in before, so
whoever guesses elsewhere locks nobody out. Recovery codes are too long to be guessed, so of them nothing is counted. A name that
does not exist costs the same work, leaves the same event and gets the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.errors import Broken, Sealed
from keyclave.identity.lockout import KNOWN, network_of
from keyclave.identity.one_time_codes import matching_step
from keyclave.identity.peer import Peer
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.forms import Answer, Request
from keyclave.operations.people.enrol_password import Password
from keyclave.operations.people.enrol_recovery import code_digest
from keyclave.operations.people.enrol_totp import Code
from keyclave.operations.people.enrolment import Ceremony, open_secret
from keyclave.operations.people.login import Principal, TenantRef, admit, begin_attempt, not_in, submit
from keyclave.store.access import people, sessions
from keyclave.store.access.people import Authenticator

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "login-code"
FAILURES = 100
STRANGERS = 50  # failures in a row after which only places are heard where the person has been
RecoveryText = Password


class PasswordLogin(Request, kw_only=True):
    """The first factor. `tenant`: name or id, the home tenant where empty."""

    principal: Principal
    password: Password
    tenant: TenantRef = ""


class CodeAsked(Answer, kw_only=True):
    """The password was right: now the code, under this ceremony."""

    ceremony: str


class CodeLogin(Request, kw_only=True):
    """The second factor."""

    ceremony: Ceremony
    code: Code
    cookie: bool = False


class RecoveryLogin(Request, kw_only=True):
    """One of the ten codes. The session it opens is good for enrolling a passkey of level 1, nothing else; of level 2 where the
    password is given with it."""

    principal: Principal
    code: RecoveryText
    password: Annotated[str, Meta(max_length=256)] = ""
    tenant: TenantRef = ""
    cookie: bool = False


def password(desk: Desk, peer: Peer, request: PasswordLogin, reply: Reply) -> None:
    """Check a password, on a thread for passwords."""
    if desk.vault.sealed:  # hashes are sealed with the tenant's key; said before anything is looked up
        raise Sealed
    tenant, found = _claimed(desk, peer, request.tenant, request.principal, "password")
    heard = found is not None and not desk.store.read(lambda conn: _is_strange(conn, found, peer.address, desk.clock.now()))
    kept = None if found is None else open_secret(desk, found)
    attempt = begin_attempt(desk, peer, found.tenant if found else "", found.principal if found else "", reply)

    def checked(right: bool, fault: Exception | None) -> None:
        if fault is not None:
            attempt.error = Broken("the login failed", "see the server's log")
            desk.log.complain(fault)
            desk.enqueue(attempt)
        elif right and heard and found is not None:
            named = {"tenant": found.tenant, "principal": found.principal, "subject": found.id}
            attempt.answer = CodeAsked(ceremony=desk.people.ceremonies.begin(KIND, attempt.at, **named))
            reply(attempt)  # half a login is no event: the second half will be
        else:
            _fail(desk, attempt, found, (tenant, request.principal))

    desk.people.passwords.verify(request.password, kept, desk.on_loop, checked)


def code(desk: Desk, peer: Peer, request: CodeLogin, reply: Reply) -> None:
    """Check a one-time code: within its drift, and later than every code of this generator that counted before."""
    now = desk.clock.now()
    said = desk.people.ceremonies.read(request.ceremony, KIND, now)
    _, found = _claimed(desk, peer, said.tenant, said.principal, "totp")
    step = None if found is None else matching_step(open_secret(desk, found), request.code, now)
    attempt = begin_attempt(desk, peer, said.tenant, said.principal, reply)
    if found is None or step is None or desk.store.read(lambda conn: _is_strange(conn, found, peer.address, now)):
        _fail(desk, attempt, found, (said.tenant, said.principal))
        return

    def change(transaction: Connection) -> object:
        if not people.count_use(transaction, found.id, step, now):  # this code, or a later one, counted already
            _count(transaction, attempt, found, (said.tenant, said.principal))
            return None
        desk.people.ceremonies.spend(transaction, request.ceremony, said, now)
        if not people.count_use(transaction, said.subject, 0, now):
            raise not_in()  # the password was replaced or revoked meanwhile
        answer = admit(desk, transaction, attempt, aal=2, how="totp", authenticator=found.id)
        desk.people.proved(transaction, attempt, said.tenant, said.principal)
        return answer

    submit(desk, attempt, change)


def recovery(desk: Desk, peer: Peer, request: RecoveryLogin, reply: Reply) -> None:
    """Use a recovery code up; the event is an alarm, for whoever lost the codes should see it."""
    if request.password and desk.vault.sealed:
        raise Sealed
    tenant, found = _claimed(desk, peer, request.tenant, request.principal, "recovery")
    attempt = begin_attempt(desk, peer, found.tenant if found else "", found.principal if found else "", reply)
    if not request.password:
        _recover(desk, attempt, request, tenant, found, None)
        return

    def read(conn: Connection) -> tuple[Authenticator | None, bool]:
        second = None if found is None else people.live_authenticator(conn, found.tenant, found.principal, "password")
        return second, second is not None and not _is_strange(conn, second, peer.address, attempt.at)

    second, heard = desk.store.read(read)

    def checked(right: bool, fault: Exception | None) -> None:
        if fault is not None:
            attempt.error = Broken("the login failed", "see the server's log")
            desk.log.complain(fault)
            desk.enqueue(attempt)
        elif right and heard:
            _recover(desk, attempt, request, tenant, found, second)
        else:  # the code is not used up: whoever guesses passwords burns nobody's way back
            _fail(desk, attempt, second, (tenant, request.principal))

    kept = None if second is None else open_secret(desk, second)
    desk.people.passwords.verify(request.password, kept, desk.on_loop, checked)


def _recover(
    desk: Desk,
    attempt: Attempt,
    request: RecoveryLogin,
    tenant: str,
    found: Authenticator | None,
    second: Authenticator | None,
) -> None:
    """Use the code up and open the session of an enrolment; `second` is a password that was right."""
    digest = code_digest("" if found is None else found.id, request.code)

    def change(transaction: Connection) -> object:
        if found is None or not people.take_recovery_code(transaction, found.id, digest, attempt.at):
            _count(transaction, attempt, None, (tenant, request.principal))
            attempt.detail = None if found is None else {"authenticator": found.id}
            return None
        attempt.detail = {"alarm": "recovery"}
        if second is not None and not people.count_use(transaction, second.id, 0, attempt.at):
            raise not_in()  # the password was replaced or revoked meanwhile
        how = "recovery" if second is None else "recovery-password"
        answer = admit(desk, transaction, attempt, aal=1, how=how, authenticator=found.id, enrolling=True)
        desk.people.proved(transaction, attempt, tenant, request.principal)
        return answer

    submit(desk, attempt, change)


def _claimed(desk: Desk, peer: Peer, tenant: str, principal: str, kind: str) -> tuple[str, Authenticator | None]:
    """Let a try begin, and return the tenant's id with somebody's authenticator of a kind; None for who has none, is disabled or
    does not exist.

    The try is counted under the tenant's id, however the tenant was called: else each of its names would be tries of its own.
    """
    named = desk.store.read(lambda conn: people.find_tenant(conn, tenant)) or ""
    desk.people.claim(named, principal, peer.address)

    def read(conn: Connection) -> Authenticator | None:
        person = people.read_person(conn, named, principal)
        authenticator = people.live_authenticator(conn, named, principal, kind)
        return None if person is None or person.disabled_at is not None else authenticator

    return named, desk.store.read(read)


def _is_strange(conn: Connection, one: Authenticator, address: str, now: int) -> bool:
    """Tell whether strangers have failed too often at an authenticator, and this is a place where its person has not been."""
    if one.failures < STRANGERS:
        return False
    here = network_of(address)
    return all(network_of(place) != here for place in sessions.places_of(conn, one.tenant, one.principal, now - KNOWN))


def _fail(desk: Desk, attempt: Attempt, found: Authenticator | None, name: tuple[str, str]) -> None:
    """Leave the event of a failure; its commit is what makes known and unknown names take the same time."""
    submit(desk, attempt, lambda transaction: _count(transaction, attempt, found, name))


def _count(transaction: Connection, attempt: Attempt, found: Authenticator | None, name: tuple[str, str]) -> None:
    """Count a failure: of a name (tenant and principal) at this network; and of an authenticator, which is disabled at the
    hundredth in a row. Of strangers half as many are counted."""
    attempt.error = not_in()
    attempt.desk.people.failed(transaction, *name, attempt.peer.address, attempt.at)
    if found is None:
        return
    now = people.read_authenticator(transaction, found.tenant, found.id) or found  # those who came with it counted meanwhile
    if _is_strange(transaction, now, attempt.peer.address, attempt.at):
        attempt.detail = {"authenticator": found.id, "place": "strange"}
        return
    detail: dict[str, str | int] = {"authenticator": found.id}
    if people.count_failure(transaction, found.id) >= FAILURES:
        people.revoke_authenticator(transaction, found.id, attempt.at, "failures")
        detail["alarm"] = "failures"
    attempt.detail = dict(sorted(detail.items()))

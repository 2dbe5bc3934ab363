"""Single sign-on: a provider outside vouches for somebody who was invited here under the name that it gives.

Two halves, and between them a browser. The first half leaves a ceremony in a cookie of that browser; state, nonce and PKCE
verifier are made of it with a key of ours, so an answer that was planted in another browser fits nothing there, and nothing is
kept. Finishing spends the ceremony with the session that it opens. What a provider says of groups gives roles only within the
duty that the person was let in for, and none that do not go together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy import Connection

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import AssuranceRequired, KeyclaveError, LimitReached, Refused, Unauthenticated, Unknown
from keyclave.identity.caller import Caller
from keyclave.identity.oidc import authorization_url, not_signed_on, read_callback
from keyclave.identity.oidc_meaning import level_of, principal_of, roles_of
from keyclave.identity.oidc_tokens import Vouched
from keyclave.identity.peer import Peer
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.people.ceremonies import Ceremony
from keyclave.operations.people.invitations import admit_vouched
from keyclave.operations.people.login import begin_attempt, submit
from keyclave.operations.people.sessions import SessionAnswer, answer_of, open_session, raise_session
from keyclave.operations.people.sign_on_room import House
from keyclave.operations.people.sso_roles import check_duty_group, follow_groups
from keyclave.operations.people.step_up import weaker
from keyclave.policy.rules import SignOn
from keyclave.store.access import people, sessions
from keyclave.store.access.sessions import Session

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "sign-on"
METHOD = "oidc"
HAND_OVER = re.compile(r"[1-9][0-9]{3,4}\.[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{43}", re.ASCII)
_AT_ONCE = 64  # answers that are being looked at


class ProviderView(msgspec.Struct, kw_only=True):
    """A provider, for a button: `name` in paths, `label` for people."""

    name: str
    label: str


class ProviderList(msgspec.Struct, kw_only=True):
    """Where people log in: the origin of the pages, and the providers whose people may."""

    pages: str
    providers: list[ProviderView]


class Begun(NamedTuple):
    """Where the browser goes, and the ceremony that its cookie holds meanwhile."""

    location: str
    ceremony: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the second half needs. `hand_over`: of a command line that waits, or empty; `fresh`: since when a proof counts, in
    seconds, or 0."""

    hand_over: str = ""
    fresh: int = 0


_held = msgspec.json.Decoder(Held).decode


def list_providers(desk: Desk) -> ProviderList:
    """List the providers, by name: the login page shows them to everybody, and a command line asks where that page is."""
    houses = sorted(desk.people.houses.values(), key=lambda house: house.provider.name)
    return ProviderList(
        pages=desk.people.relying.origins[0],
        providers=[ProviderView(name=one.provider.name, label=one.provider.label) for one in houses],
    )


async def begin(desk: Desk, name: str, hand_over: str, caller: Caller | None) -> Begun:
    """Begin a sign-on. `caller`: whose session is to be confirmed, or None for a login. A strange provider is `Unknown`."""
    house = find_house(desk, name)
    if hand_over and not HAND_OVER.fullmatch(hand_over):
        raise Refused("this is not what a command line asks for", "run `keyclave login` again")
    if caller is not None:
        _check_own(house, caller)
    now = desk.clock.now()
    fresh = caller is not None or bool(hand_over)  # a session is handed over only after a proof of presence
    held = msgspec.json.encode(Held(hand_over=hand_over, fresh=now // MICROSECONDS if fresh else 0)).decode()
    text = desk.people.ceremonies.begin(
        KIND, now, principal="" if caller is None else caller.id, tenant="" if caller is None else caller.tenant, subject=name,
        held=held,
    )  # fmt: skip
    url = authorization_url(
        house.provider, await house.document(), _made(desk, text, "state"), nonce=_made(desk, text, "nonce"),
        verifier=_made(desk, text, "verifier"), fresh=fresh,
    )  # fmt: skip
    return Begun(url, text)


async def finish(desk: Desk, peer: Peer, name: str, ceremony: str, said: Mapping[str, str], reply: Reply) -> str:
    """Finish what this browser began: the answer is a session. Return what waits for it at a command line, or nothing.

    Raises what is refused before anybody is known.
    """
    house = find_house(desk, name)
    now = desk.clock.now()
    begun = desk.people.ceremonies.read(ceremony, KIND, now)
    if begun.subject != name:  # another provider's answer (RFC 9700 section 4.4)
        raise not_signed_on()
    code = read_callback(house.provider, await house.document(), said, _made(desk, ceremony, "state"))
    held = _held(begun.held)
    vouched = await _vouched(desk, peer, house, code, ceremony, held)
    tenant = desk.store.read(lambda conn: people.find_tenant(conn, house.provider.tenant))
    if tenant is None:
        raise not_signed_on()
    meaning = _Meaning(desk, house, tenant, vouched)
    attempt = begin_attempt(desk, peer, tenant, meaning.principal, reply)
    attempt.detail = {"provider": name}
    attempt.touches = (begun.principal,) if begun.principal else ()

    def change(transaction: Connection) -> SessionAnswer:
        desk.people.ceremonies.spend(transaction, ceremony, begun, now)
        return meaning.step_up(transaction, attempt, begun) if begun.principal else meaning.admit(transaction, attempt)

    submit(desk, attempt, change)
    return held.hand_over


async def _vouched(desk: Desk, peer: Peer, house: House, code: str, ceremony: str, held: Held) -> Vouched:
    """Have the provider's word, or count a failure of this address: else anybody could have us ask the provider for ever."""
    room = desk.people
    if room.lockout.wait("", peer.address) or room.signing_on >= _AT_ONCE:
        raise LimitReached("too many sign-ons at once, or failed ones from here", "wait a little, then begin again")
    room.signing_on += 1
    try:
        tokens = await house.redeem(code, _made(desk, ceremony, "verifier"))
        return await house.verify(tokens, _made(desk, ceremony, "nonce"), held.fresh)
    except KeyclaveError:
        room.lockout.failed("", peer.address)
        raise
    finally:
        room.signing_on -= 1


class _Meaning:
    """What a vouched login means by the policy in force, and what it opens."""

    def __init__(self, desk: Desk, house: House, tenant: str, vouched: Vouched) -> None:
        self._desk = desk
        self._house = house
        self._tenant = tenant
        self._rules = desk.access.revisions.of(tenant).rules.sign_on.get(house.provider.name, SignOn())
        self._roles = roles_of(vouched, self._rules.groups)
        self._aal = level_of(vouched, self._rules.acr, self._rules.amr)
        self._proved_at = vouched.proved_at * MICROSECONDS
        self.principal = principal_of(house.provider.name, vouched.subject)

    def admit(self, transaction: Connection, attempt: Attempt) -> SessionAnswer:
        """Open a session for somebody who was invited."""
        self._check_level()
        if not admit_vouched(self._desk, transaction, self._tenant, self.principal, attempt.at):
            attempt.detail = {"provider": self._house.provider.name, "why": "not invited"}
            raise Unauthenticated("the login did not succeed", "ask an operator to invite you under the name that the log shows")
        self._follow(transaction, attempt)
        session, token = open_session(
            self._desk, transaction, self._tenant, self.principal, aal=self._aal, how=METHOD, at=attempt.at,
            source=attempt.peer.address, proved_at=self._proved_at,
        )  # fmt: skip
        return self._answer(attempt, session, token)

    def step_up(self, transaction: Connection, attempt: Attempt, begun: Ceremony) -> SessionAnswer:
        """Confirm the session that began it: of the same person, who proved themselves anew, no less surely than before."""
        self._check_level()
        found = sessions.read_session(transaction, self._tenant, begun.principal)
        if found is None or found.principal != self.principal or begun.tenant != self._tenant or found.how != METHOD:
            raise not_signed_on()
        if self._aal < found.aal:
            raise weaker()
        session, token = raise_session(
            self._desk, transaction, found.id, self._tenant, aal=self._aal, how=METHOD, at=attempt.at, authenticator="",
            proved_at=self._proved_at,
        )  # fmt: skip
        self._follow(transaction, attempt)
        return self._answer(attempt, session, token)

    def _check_level(self) -> None:
        if self._aal < self._house.provider.least_aal:
            raise AssuranceRequired(
                f"a login by this provider must reach level {self._house.provider.least_aal}",
                "use what the provider calls strong authentication",
            )

    def _follow(self, transaction: Connection, attempt: Attempt) -> None:
        person = people.read_person(transaction, self._tenant, self.principal)
        if person is None:
            raise not_signed_on()
        check_duty_group(self._rules, self._roles, person.role)
        if self._rules.groups:
            follow_groups(self._desk, transaction, attempt, person, self._house.provider.name, self._roles)

    def _answer(self, attempt: Attempt, session: Session, token: str) -> SessionAnswer:
        detail: dict[str, str | int] = {"aal": self._aal, "method": METHOD, "session": session.id}
        attempt.detail = dict(sorted({**(attempt.detail or {}), **detail}.items()))
        return answer_of(session, token)


def find_house(desk: Desk, name: str) -> House:
    """Return a provider by name."""
    house = desk.people.houses.get(name)
    if house is None:
        raise Unknown("no such provider", "see the login page for those there are")
    return house


def _check_own(house: House, caller: Caller) -> None:
    """Refuse to confirm a session by a provider that did not open it."""
    mine = caller.principal.startswith(f"oidc:{house.provider.name}:") and caller.standing.how == METHOD
    if not mine or not caller.id.startswith("ses_"):
        raise Refused("this session was not opened by this provider", "confirm with what you logged in with")


def _made(desk: Desk, ceremony: str, what: str) -> str:
    """Return state, nonce or PKCE verifier of a ceremony: 256 bits that only this server can make of it."""
    return desk.people.ceremonies.derive(ceremony, f"sign-on/{what}")

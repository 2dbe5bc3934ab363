"""`keyclave login` without a browser: the machine shows a short code, its person types it where they are logged in (RFC 8628).

The machine may be anybody's: whoever is talked into typing a stranger's code would let the stranger in. So the page shows what
waits and from which address, the person proves presence just before, and what the machine gets is never more than level 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.clock import to_text
from keyclave.core.errors import LimitReached, Unauthenticated, Unknown
from keyclave.crypto.bearer import DEVICE, new_token
from keyclave.identity.peer import Peer
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.forms import Answer, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.ceremonies import over
from keyclave.operations.people.devices import INTERVAL, SECONDS, Devices, Waiting, plain, shown
from keyclave.operations.people.hand_over import check_hands_on, open_handed
from keyclave.operations.people.login import begin_attempt, submit
from keyclave.operations.people.sessions import SessionAnswer
from keyclave.store.moments import take_moment

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

MOST_AAL = 2
METHOD = "device"
PAGE = "/ui/device"
UserCode = Annotated[str, Meta(min_length=8, max_length=16, pattern=r"^[A-Za-z -]+$(?!\n)")]


class BeginDevice(Request, kw_only=True):
    """A machine begins to wait."""


class DeviceBegun(Answer, kw_only=True):
    """`user_code` is for the person to type at `verification_uri`; `device_code` is the machine's own. Times in seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    interval: int


class DeviceLogin(Request, kw_only=True):
    """The machine asks whether it is let in."""

    device_code: Annotated[str, Meta(min_length=1, max_length=128)]


class DeviceAnswer(Answer, kw_only=True):
    """How it stands, in the words of RFC 8628 section 3.5; with `granted` comes the session. `interval`: seconds to the next
    question."""

    status: Literal["authorization_pending", "slow_down", "access_denied", "expired_token", "granted"]
    interval: int = INTERVAL
    session: SessionAnswer | None = None


class DeviceCode(Request, kw_only=True):
    """What the person typed."""

    user_code: UserCode


class DeviceGrant(DeviceCode, kw_only=True):
    """Whether the machine is let in."""

    allow: bool


class DeviceView(Answer, kw_only=True):
    """What waits: from which address, since when, and until when it does."""

    user_code: str
    address: str
    began_at: str
    expires_at: str


def begin(desk: Desk, peer: Peer, _request: BeginDevice, reply: Reply) -> None:
    """Let a machine wait, at whichever node it asks later. What is refused for want of room is raised, and leaves nothing."""
    devices = desk.people.devices
    device_code, digest = new_token(desk.module, DEVICE)
    attempt = begin_attempt(desk, peer, "", "", reply)
    attempt.detail = {"method": METHOD}
    desk.store.read(lambda conn: devices.check_room(conn, peer.address, attempt.at))

    def change(transaction: Connection) -> DeviceBegun:
        code = devices.begin(transaction, digest, peer.address, attempt.at)
        return DeviceBegun(
            device_code=device_code,
            user_code=shown(code),
            verification_uri=desk.people.relying.origins[0] + PAGE,
            expires_in=SECONDS,
            interval=INTERVAL,
        )

    submit(desk, attempt, change)


def poll(desk: Desk, peer: Peer, request: DeviceLogin, reply: Reply) -> None:
    """Tell a machine how it stands; once it is let in, open its session, once."""
    now, devices = desk.clock.now(), desk.people.devices
    one = desk.store.read(lambda conn: devices.of_machine(conn, request.device_code, now))
    if one is not None and one.held.granted_by is not None:
        _let_in(desk, peer, one, one.held.granted_by, reply)
        return
    attempt = begin_attempt(desk, peer, "", "", reply)
    attempt.answer = _standing(devices, one, now)
    reply(attempt)


def _standing(devices: Devices, one: Waiting | None, now: int) -> DeviceAnswer:
    if one is None:
        return DeviceAnswer(status="expired_token")
    if one.held.denied:
        return DeviceAnswer(status="access_denied")
    too_soon, interval = devices.pace(one, now)
    return DeviceAnswer(status="slow_down" if too_soon else "authorization_pending", interval=interval)


def _let_in(desk: Desk, peer: Peer, one: Waiting, granted_by: tuple[str, str, str], reply: Reply) -> None:
    tenant, principal, session = granted_by
    attempt = begin_attempt(desk, peer, tenant, principal, reply)

    def change(transaction: Connection) -> DeviceAnswer | None:
        if not take_moment(transaction, one.moment):  # of two that ask, at whichever nodes, one gets it
            raise over()
        try:
            opened = open_handed(desk, transaction, attempt, tenant, session, most=MOST_AAL, method=METHOD)
        except Unauthenticated as error:  # set, not raised: the code is used up, else each question would be an event
            attempt.error = error
            return None
        return DeviceAnswer(status="granted", session=opened)

    submit(desk, attempt, change)


def look(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: DeviceCode) -> DeviceView:
    """Show what waits under a code, before anybody says yes."""
    return _view(_typed(desk, attempt, request.user_code), request.user_code)


def grant(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: DeviceGrant) -> Callable[[Connection], DeviceView]:
    """Let a machine in as whoever is logged in here, or turn it away."""
    one = _typed(desk, attempt, request.user_code)
    caller, allow = attempt.caller, request.allow
    attempt.detail = {"address": one.held.address, "allow": int(allow)}

    def change(transaction: Connection) -> DeviceView:
        granted_by = (caller.tenant, caller.principal, caller.id) if allow else None
        if not desk.people.devices.decide(transaction, one, granted_by):
            raise _nothing_waits()
        return _view(one, request.user_code)

    return change


def _typed(desk: Desk, attempt: Attempt, typed: str) -> Waiting:
    """Return what a typed code names. Tries that name nothing are counted by person and network, and slowed down."""
    check_hands_on(attempt)
    caller, address = attempt.caller, attempt.peer.address
    name = f"device/{caller.tenant}/{caller.principal}"
    if desk.people.lockout.wait(name, address):
        raise LimitReached("too many codes that name nothing", "wait, and read the code again where it is shown")
    one = desk.store.read(lambda conn: desk.people.devices.of_person(conn, typed, attempt.at))
    if one is None or one.held.denied or one.held.granted_by is not None:
        desk.people.lockout.failed(name, address)
        raise _nothing_waits()
    return one


def _nothing_waits() -> Unknown:
    return Unknown("no machine waits under this code", "read it again where it is shown; it is over after ten minutes")


def _view(one: Waiting, typed: str) -> DeviceView:
    moment = one.moment
    return DeviceView(
        user_code=shown(plain(typed)),
        address=one.held.address,
        began_at=to_text(moment.made_at),
        expires_at=to_text(moment.expires_at),
    )

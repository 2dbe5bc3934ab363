"""`keyclave login` without a browser: the machine shows a short code, its person types it where they are logged in (RFC 8628).

The machine may be anybody's: whoever is talked into typing a stranger's code would let the stranger in. So the page shows what
waits and from which address, the person proves presence just before, and what the machine gets is never more than level 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.core.errors import LimitReached, Unknown
from keyclave.crypto.bearer import DEVICE, new_token
from keyclave.identity.peer import Peer
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.forms import Answer, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.devices import INTERVAL, SECONDS, Waiting, shown
from keyclave.operations.people.hand_over import check_hands_on, open_handed
from keyclave.operations.people.login import begin_attempt, submit
from keyclave.operations.people.sessions import SessionAnswer

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

MOST_AAL = 2
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
    """Let a machine wait. Nothing is written: beginning many fills neither disk nor record."""
    now = desk.clock.now()
    device_code, digest = new_token(desk.module, DEVICE)
    one = desk.people.devices.begin(digest, peer.address, now)
    attempt = begin_attempt(desk, peer, "", "", reply)
    attempt.answer = DeviceBegun(
        device_code=device_code,
        user_code=shown(one.user_code),
        verification_uri=desk.people.relying.origins[0] + PAGE,
        expires_in=SECONDS,
        interval=INTERVAL,
    )
    reply(attempt)


def poll(desk: Desk, peer: Peer, request: DeviceLogin, reply: Reply) -> None:
    """Tell a machine how it stands; once it is let in, open its session, once."""
    now, devices = desk.clock.now(), desk.people.devices
    one = devices.of_machine(request.device_code, now)
    if one is not None and one.granted_by is not None and not one.denied:
        devices.end(one)  # before the session is there: of two that ask, one gets it
        _let_in(desk, peer, one.granted_by, reply)
        return
    attempt = begin_attempt(desk, peer, "", "", reply)
    attempt.answer = _standing(one, now)
    if one is not None and one.denied:
        devices.end(one)
    reply(attempt)


def _standing(one: Waiting | None, now: int) -> DeviceAnswer:
    if one is None:
        return DeviceAnswer(status="expired_token")
    if one.denied:
        return DeviceAnswer(status="access_denied")
    too_soon = one.asked_at and now - one.asked_at < one.interval * MICROSECONDS * 9 // 10
    one.asked_at = now
    if too_soon:
        one.interval = min(one.interval + INTERVAL, 60)
        return DeviceAnswer(status="slow_down", interval=one.interval)
    return DeviceAnswer(status="authorization_pending", interval=one.interval)


def _let_in(desk: Desk, peer: Peer, granted_by: tuple[str, str, str], reply: Reply) -> None:
    tenant, principal, session = granted_by
    attempt = begin_attempt(desk, peer, tenant, principal, reply)

    def change(transaction: Connection) -> DeviceAnswer:
        opened = open_handed(desk, transaction, attempt, tenant, session, most=MOST_AAL, method="device")
        return DeviceAnswer(status="granted", session=opened)

    submit(desk, attempt, change)


def look(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: DeviceCode) -> DeviceView:
    """Show what waits under a code, before anybody says yes."""
    one = _typed(desk, attempt, request.user_code)
    return _view(one)


def grant(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: DeviceGrant) -> Callable[[Connection], DeviceView]:
    """Let a machine in as whoever is logged in here, or turn it away."""
    one = _typed(desk, attempt, request.user_code)
    caller, allow = attempt.caller, request.allow
    attempt.detail = {"address": one.address, "allow": int(allow)}

    def decide() -> None:
        if allow:
            one.granted_by = (caller.tenant, caller.principal, caller.id)
        else:
            one.denied = True

    attempt.after = decide  # once the event is durable
    return lambda _transaction: _view(one)


def _typed(desk: Desk, attempt: Attempt, typed: str) -> Waiting:
    """Return what a typed code names. Tries that name nothing are counted by person and network, and slowed down."""
    check_hands_on(attempt)
    caller, address = attempt.caller, attempt.peer.address
    name = f"device/{caller.tenant}/{caller.principal}"
    if desk.people.lockout.wait(name, address):
        raise LimitReached("too many codes that name nothing", "wait, and read the code again where it is shown")
    one = desk.people.devices.of_person(typed, attempt.at)
    if one is None or one.denied or one.granted_by is not None:
        desk.people.lockout.failed(name, address)
        raise Unknown("no machine waits under this code", "read it again where it is shown; it is over after ten minutes")
    return one


def _view(one: Waiting) -> DeviceView:
    return DeviceView(
        user_code=shown(one.user_code), address=one.address, began_at=to_text(one.began_at), expires_at=to_text(one.until)
    )

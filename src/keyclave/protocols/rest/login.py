"""Logging in over REST: the few requests that nobody has a credential for yet. Each answers like any operation, once durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keyclave.core import limits
from keyclave.core.errors import KeyclaveError, LimitReached, Refused, Unauthenticated
from keyclave.identity.peer import Peer, Plane
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.desk import Desk
from keyclave.operations.people import accept, cli_login, device_login, login, login_secrets
from keyclave.operations.people.sessions import SessionAnswer
from keyclave.operations.people.webauthn_forms import PasskeyBegun
from keyclave.protocols.rest.bodies import read_alone
from keyclave.protocols.rest.cookies import move_to_cookie
from keyclave.protocols.rest.gateway import JSON, Gateway, read_head
from keyclave.protocols.rest.problems import CONTENT_TYPE, problem, retry_after
from keyclave.protocols.rest.same_site import check_site

T = TypeVar("T")
Begin = Callable[[Desk, Peer, Any, Reply], None]
Guard = Callable[[Callable[[Request], Any]], Callable[[Request], Any]]
Body = Callable[[Request], Any]

_NO_STORE = {"cache-control": "no-store"}
_BODY = limits.EARLY  # a passkey's answer with its certificates is much smaller


class Way(NamedTuple):
    """A way in: what is asked and answered, for the routes and for the API's document."""

    path: str
    verb: Begin
    request: type
    answer: type
    summary: str


WAYS = [
    Way("/v1/login/passkey/finish", login.finish, login.FinishLogin, SessionAnswer, "Log in with what the device answered."),
    Way("/v1/login/password", login_secrets.password, login_secrets.PasswordLogin, login_secrets.CodeAsked,
        "Begin a login with a password: a code is asked next."),
    Way("/v1/login/totp", login_secrets.code, login_secrets.CodeLogin, SessionAnswer, "Finish it with a one-time code."),
    Way("/v1/login/recovery", login_secrets.recovery, login_secrets.RecoveryLogin, SessionAnswer,
        "Use a recovery code up, to enrol a new passkey."),
    Way("/v1/enrolment/begin", accept.begin, accept.BeginEnrolment, accept.EnrolmentAnswer,
        "Begin an enrolment with an invitation's token."),
    Way("/v1/login/cli/token", cli_login.exchange, cli_login.CliLogin, SessionAnswer,
        "Trade a command line's code and verifier for its session."),
    Way("/v1/login/device", device_login.begin, device_login.BeginDevice, device_login.DeviceBegun,
        "Begin a login of a machine without a browser."),
    Way("/v1/login/device/token", device_login.poll, device_login.DeviceLogin, device_login.DeviceAnswer,
        "Ask whether the machine was let in."),
]  # fmt: skip


def document_ways(named: dict[Any, Any]) -> dict[str, tuple[str, Any, Any]]:
    """Return summary, request and answer of every path here, by path, as the schemas name them."""
    begin = ("Begin a login with a passkey.", named[login.BeginLogin], named[PasskeyBegun])
    return {"/v1/login/passkey/begin": begin} | {one.path: (one.summary, named[one.request], named[one.answer]) for one in WAYS}


def types_of_ways() -> list[type]:
    """Return every type that `document_ways` names."""
    return [login.BeginLogin, PasskeyBegun, *(shown for one in WAYS for shown in (one.request, one.answer))]


def login_routes(gateway: Gateway, guarded: Guard, read_body: Body, peer_of: Callable[[Request], Peer]) -> list[Route]:
    """Return the routes. `guarded` turns errors to answers, `read_body` and `peer_of` read the request."""

    async def begin(request: Request) -> Response:
        _check_plane(peer_of(request))
        asked = await _read(read_body, request, login.BeginLogin)
        return Response(encode_answer(login.begin(gateway.desk, asked)), media_type=JSON.decode(), headers=_NO_STORE)

    def way(verb: Begin, form: type) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            peer = peer_of(request)
            _check_plane(peer)
            asked: Any = await _read(read_body, request, form)
            if getattr(asked, "cookie", False):  # else another site could log a browser in as somebody it is not
                head = read_head(request.scope["headers"], b"")
                check_site(head.site, head.origin, gateway.desk.people.relying.origins, reading=False)
            answered: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
            try:
                verb(gateway.desk, peer, asked, lambda attempt: None if answered.done() else answered.set_result(attempt))
            except (Unauthenticated, Refused, LimitReached):
                gateway.refused(peer.address, "login")
                raise
            return _answer(await answered, cookie=getattr(asked, "cookie", False))

        return guarded(handle)

    first = Route("/v1/login/passkey/begin", guarded(begin), methods=["POST"])
    return [first, *(Route(one.path, way(one.verb, one.request), methods=["POST"]) for one in WAYS)]


def _check_plane(peer: Peer) -> None:
    if peer.plane is Plane.DATA:
        raise Refused("people do not log in on this listener", "use the control listener")


async def _read(read_body: Body, request: Request, form: type[T]) -> T:
    body = await read_body(request)
    if len(body) > _BODY:
        raise msgspec.ValidationError("the request is longer than any login")
    return read_alone(body, form)


def _answer(attempt: Attempt, *, cookie: bool) -> Response:
    if attempt.error is not None:
        return _refusal(attempt.error, attempt.event)
    answer = attempt.answer
    answer.event = attempt.event
    headers = dict(_NO_STORE)
    if cookie and isinstance(answer, SessionAnswer):
        headers["set-cookie"] = move_to_cookie(answer)
    return Response(encode_answer(answer), media_type=JSON.decode(), headers=headers)


def _refusal(error: KeyclaveError, event: str) -> Response:
    status, body = problem(error, event)
    headers = dict(_NO_STORE)
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="keyclave"'
    if status in (429, 503):
        headers["retry-after"] = str(retry_after(error))
    return Response(body, status, media_type=CONTENT_TYPE.decode(), headers=headers)

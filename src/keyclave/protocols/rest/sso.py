"""Single sign-on in a browser: away to a provider, and back with a session as a cookie.

The way back comes from the provider's site, so a browser would not send a strict cookie along with a redirect from here: the
answer is a page that goes on by itself, and that next step is our own site's. Nothing of what a link says is a place to go to.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from keyclave.core.errors import KeyclaveError, Malformed, Refused, Unauthenticated, Unknown
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer, Plane
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt import Attempt
from keyclave.operations.people import sso
from keyclave.operations.people.ceremonies import SECONDS
from keyclave.protocols.rest.cookies import move_to_cookie, no_sign_on_cookie, sign_on_cookie, sign_on_in, token_in
from keyclave.protocols.rest.gateway import JSON, Gateway, read_head
from keyclave.protocols.rest.problems import problem

Guard = Callable[[Callable[[Request], Any]], Callable[[Request], Any]]
Query = Callable[[Request], dict[str, str]]

_BEGIN = frozenset({"cli", "step_up"})
_ACCOUNT = "/ui/account"
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",  # the address of this page holds the provider's code
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def sign_on_routes(gateway: Gateway, guarded: Guard, query: Query, peer_of: Callable[[Request], Peer]) -> list[Route]:
    """Return the routes. `guarded` turns errors to answers, `query` and `peer_of` read the request."""
    desk = gateway.desk

    async def providers(_request: Request) -> Response:
        return Response(encode_answer(sso.list_providers(desk)), media_type=JSON.decode(), headers={"cache-control": "no-store"})

    async def start(request: Request) -> Response:
        name = _provider(request)
        said = query(request)
        if set(said) - _BEGIN or said.get("step_up", "1") != "1":
            raise Malformed("unknown query parameters", "a sign-on takes cli, or step_up=1")
        caller = _caller(gateway, request, peer_of) if "step_up" in said else None
        begun = await sso.begin(desk, name, said.get("cli", ""), caller)
        away = RedirectResponse(begun.location, 303, headers=_HEADERS)
        away.headers["set-cookie"] = sign_on_cookie(begun.ceremony, SECONDS)
        return away

    async def callback(request: Request) -> Response:
        name, peer = _provider(request), peer_of(request)
        ceremony = sign_on_in(read_head(request.scope["headers"], b"").cookie or b"")
        answered: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        try:
            if not ceremony:
                raise Refused("this browser began no sign-on", "begin again at the login page")
            hand_over = await sso.finish(
                desk, peer, name, ceremony, query(request), lambda done: None if answered.done() else answered.set_result(done)
            )
        except KeyclaveError as error:
            gateway.refused(peer.address, "login")
            return _failed(error)
        attempt = await answered
        if attempt.error is not None:
            return _failed(attempt.error, attempt.event)
        next_page = f"/ui/login?cli={hand_over}" if hand_over else _ACCOUNT
        done = _page("Logged in", "You are logged in.", next_page, "Go on", refresh=True)
        done.headers.append("set-cookie", move_to_cookie(attempt.answer))
        return done

    def _provider(request: Request) -> str:
        if peer_of(request).plane is Plane.DATA:
            raise Unknown("there is nothing at this path and method", "see /v1/openapi.json")
        return sso.find_house(desk, request.path_params["provider"]).provider.name

    return [
        Route("/v1/sso", guarded(providers)),
        Route("/v1/sso/{provider}/start", guarded(start)),
        Route("/v1/sso/{provider}/callback", guarded(callback)),
    ]


def _caller(gateway: Gateway, request: Request, peer_of: Callable[[Request], Peer]) -> Caller:
    """Return whose session is to be confirmed: that of the cookie, which comes with a request of our own pages only."""
    head = read_head(request.scope["headers"], b"")
    token = token_in(head.cookie or b"")
    if not token:
        raise Unauthenticated("there is no session to confirm", "log in first")
    return gateway.visitor(token, head, peer_of(request), reading=True)


def _failed(error: KeyclaveError, event: str = "") -> Response:
    status, _ = problem(error)
    text = f"{error.detail[:1].upper()}{error.detail[1:]}: {error.hint}." if error.hint else error.detail
    page = _page("Not logged in", text + (f" Event: {event}" if event else ""), "/ui/login", "To the login page", refresh=False)
    page.status_code = status
    return page


def _page(title: str, text: str, target: str, link: str, *, refresh: bool) -> Response:
    """Return a small page; it ends the sign-on in this browser, whichever way it went."""
    where = html.escape(target, quote=True)
    onward = f'<meta http-equiv="refresh" content="0; url={where}">' if refresh else ""
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{onward}'
        f"<title>{html.escape(title)}</title></head><body><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
        f'<p><a href="{where}">{html.escape(link)}</a></p></body></html>'
    )
    page = Response(body, media_type="text/html", headers=_HEADERS)
    page.headers.append("set-cookie", no_sign_on_cookie())
    return page

"""The door of the pages: who visits, from where, by which name of the server; and how errors look to people.

Pages live on the control plane only. A page that needs a login sends whoever has none to it, and then back to a page of ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from keyclave.console.ask import Visit, sentence
from keyclave.console.headers import NOT_KEPT, headers_for
from keyclave.console.pages import Pages
from keyclave.core.errors import AssuranceRequired, Broken, KeyclaveError, Malformed, TooLarge, Unauthenticated, Unknown
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer, Plane
from keyclave.operations.desk import Desk

logger = logging.getLogger("keyclave.console")

OURS = re.compile(r"/ui/(?:approvals(?:/apr_[A-Za-z0-9_-]{1,40})?|account|device)", re.ASCII)
_STATUS = {
    "unauthenticated": 401, "refused": 403, "assurance_required": 403, "step_up_required": 403, "approval_required": 403,
    "unknown": 404, "too_large": 413, "limit_reached": 429, "malformed": 400, "broken": 500, "error": 500, "sealed": 503,
    "unavailable": 503,
}  # fmt: skip
_TITLE = {401: "Log in again", 403: "Not for you", 404: "Not found", 429: "Too many", 500: "Server fault", 503: "Not now"}
_FORM = 16 * 1024  # bytes of a form of ours


class Recognise(Protocol):
    """Finds whose session the cookie of a request is: None without one. Refuses what other sites ask for."""

    def __call__(self, headers: list[tuple[bytes, bytes]], peer: Peer, *, reading: bool) -> Caller | None: ...


class Guest:
    """A request to the pages: `visit` is None where nobody is logged in, `me` what `whoami` says of whoever is."""

    def __init__(
        self, request: Request, desk: Desk, pages: Pages, visit: Visit | None = None, me: dict[str, Any] | None = None
    ) -> None:
        self.request = request
        self.desk = desk
        self.pages = pages
        self.visit = visit
        self.me = me

    def page(self, template: str, **said: Any) -> Response:
        """Return a page, or a part of one."""
        return self.pages.page(self.request, template, me=self.me, **said)

    async def ask(self, method: str, path: str, said: dict[str, Any] | None = None, ref: str = "") -> Any:
        """Perform an operation as whoever is logged in."""
        if self.visit is None:
            raise Unauthenticated("there is no session", "log in")
        return await self.visit.ask(method, path, said, ref)

    async def form(self) -> dict[str, str]:
        """Return the fields of a form; each is there once."""
        body = bytearray()
        async for piece in self.request.stream():
            body += piece
            if len(body) > _FORM:
                raise TooLarge(f"the form is larger than {_FORM} bytes", "write less")
        try:
            text = body.decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=16)
        except ValueError:
            raise Malformed("this is not a form of ours", "load the page again") from None
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise Malformed("a field is there twice", "load the page again")
        return fields


Screen = Callable[[Guest], Awaitable[Response]]


class Door:
    """Lets requests in to screens."""

    def __init__(self, desk: Desk, pages: Pages, recognise: Recognise) -> None:
        self._desk = desk
        self._pages = pages
        self._recognise = recognise
        self._origins = desk.people.relying.origins

    def to(self, screen: Screen, *, login: bool = True, enrolling: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of a screen. `login`: it needs one; `enrolling`: a session that may only enrol is enough."""

        async def handle(request: Request) -> Response:
            try:
                return await self._let_in(request, screen, login=login, enrolling=enrolling)
            except KeyclaveError as error:
                return self._failed(request, error)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as fault:
                logger.error("a page failed", exc_info=fault)
                return self._failed(request, Broken("the page failed", "see the server's log"))

        return handle

    async def _let_in(self, request: Request, screen: Screen, *, login: bool, enrolling: bool) -> Response:
        peer: Peer = request.scope["extensions"]["keyclave.peer"]
        if peer.plane is Plane.DATA:
            raise Unknown("there is nothing here", "people use the control listener")
        reading = request.method in ("GET", "HEAD")
        if reading and (home := self._home(request)):
            return RedirectResponse(home, 307, headers=headers_for(request.scope["scheme"], NOT_KEPT))
        try:
            caller = self._recognise(request.scope["headers"], peer, reading=reading)
        except Unauthenticated:
            caller = None  # a session that ended is like none
        if caller is None:
            if not login:
                return await screen(Guest(request, self._desk, self._pages))
            return self._strange_link(request) or self._to_login(request)
        visit = Visit(self._desk, caller, peer)
        me = await visit.ask("GET", "/v1/whoami")
        me.setdefault("enrolling", False)
        if caller.standing.enrolling and not enrolling:
            return self._away(request, "/ui/enrol")
        return await screen(Guest(request, self._desk, self._pages, visit, me))

    def _home(self, request: Request) -> str:
        """Return where the page is under the server's own name, if an address was asked: passkeys need the name."""
        host = request.headers.get("host", "")
        by_address = not host.rpartition(":")[0].strip("0123456789abcdef.:[]") and any(c.isdigit() for c in host)
        if not by_address or f"{request.scope['scheme']}://{host}" in self._origins:
            return ""  # other names may be a proxy's; an address is never one that passkeys are made for
        query = request.scope["query_string"].decode("latin-1")
        return f"{self._origins[0]}{quote(request.url.path)}" + (f"?{query}" if query else "")

    def _strange_link(self, request: Request) -> Response | None:
        """A link from elsewhere brings no strict cookie: go on by a step of our own, which does."""
        headers = request.headers
        if headers.get("sec-fetch-site") != "cross-site" or headers.get("sec-fetch-mode") != "navigate":
            return None
        return self._pages.page(request, "onward.html")

    def _to_login(self, request: Request) -> Response:
        path = request.url.path
        return self._away(request, f"/ui/login?next={quote(path)}" if OURS.fullmatch(path) else "/ui/login")

    def _away(self, request: Request, where: str) -> Response:
        headers = dict(headers_for(request.scope["scheme"], NOT_KEPT))
        if request.headers.get("hx-request"):
            return HTMLResponse("", 200, headers={**headers, "hx-redirect": where})
        return RedirectResponse(where, 303, headers=headers)

    def _failed(self, request: Request, error: KeyclaveError) -> Response:
        status = _STATUS.get(error.code, 409)
        if request.headers.get("hx-request"):
            headers = dict(headers_for(request.scope["scheme"], NOT_KEPT))
            return JSONResponse({"code": error.code, "said": sentence(error)}, status, headers=headers)
        title = "Not sure enough of you" if isinstance(error, AssuranceRequired) else _TITLE.get(status, "Not done")
        return self._pages.page(request, "error.html", status, title=title, text=sentence(error), event="")


def query_of(request: Request, form: type[Any]) -> Any:
    """Return the query of a page's address."""
    try:
        return msgspec.convert(dict(request.query_params), form, strict=False)
    except msgspec.ValidationError:
        raise Malformed("this address says something that no page of ours asks", "begin at /ui/") from None
